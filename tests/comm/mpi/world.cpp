#include "world.hpp"

#include <rondo/comm/mpi.hpp>

#include <mpi.h>

namespace rondo::test {

void start_world(int& argc, char**& argv) {
  int level = 0;
  MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &level);
}

void end_world(int result) {
  if (result != 0) abort_all(MPI_COMM_WORLD, result);
  MPI_Finalize();
}

int world_rank() {
  int rank = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  return rank;
}

int world_size() {
  int size = 0;
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  return size;
}

any_communicator world(const MpiOptions& options) {
  return any_communicator(mpi_communicator<>(MPI_COMM_WORLD, options));
}

}  // namespace rondo::test
