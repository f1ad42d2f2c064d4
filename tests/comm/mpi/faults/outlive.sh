#!/bin/sh
# outlive.sh <program> <argument> <directory>: runs the program and stays, so that the launcher does not see that it was
# killed and does not end the other processes for it.
"$@"
i=0
while [ $i -lt 40 ] && ! ls "$3"/rank.* > /dev/null 2>&1; do
  sleep 0.5
  i=$((i + 1))
done
sleep 2
exit 0
