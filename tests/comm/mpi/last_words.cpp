/// \file
/// Rank 0 ends all while what it has said stands unread in its standard error, which it has made a pipe of its own. The
/// reader looks half a second later, and says so if the rank has waited for it.
#include "world.hpp"

#include <csignal>
#include <cstdio>

#include <unistd.h>

int main(int argc, char** argv) {
  rondo::test::start_world(argc, argv);
  if (rondo::test::world_rank() != 0) {
    sleep(60);
    return 1;
  }
  int ends[2];
  if (pipe(ends) != 0) return 1;
  const pid_t rank = getpid();
  if (fork() == 0) {
    setsid();  // launchers kill a rank's group
    usleep(500'000);
    if (getppid() == rank) std::fprintf(stderr, "the rank has waited\n");
    usleep(50'000);
    char words[100];
    _exit(read(ends[0], words, sizeof words) > 0 ? 0 : 1);
  }
  // What the reader says goes to the launcher: the rank waits for that as well.
  dup2(STDERR_FILENO, STDOUT_FILENO);
  dup2(ends[1], STDERR_FILENO);
  std::fprintf(stderr, "the reason why\n");
  rondo::test::end_world(3);
}
