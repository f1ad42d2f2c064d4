#!/bin/sh
# rank.sh become|outlive <program> <argument>...: runs one rank's program and leaves its process id in the file
# pid.<rank>. With `outlive` the launcher sees none of the deaths of programs: this script stays until all have ended.
how=$1
shift
rank=${OMPI_COMM_WORLD_RANK:-$PMI_RANK}
note() {
  echo "$1" > "unfinished.$rank"
  mv "unfinished.$rank" "pid.$rank"
}
if [ "$how" = become ]; then
  note $$
  exec "$@"
fi
"$@" &
note $!
wait $!
status=$?
for file in pid.*; do
  while kill -0 "$(cat "$file")" 2> /dev/null; do sleep 0.1; done
done
[ $status -gt 128 ] || exit $status
