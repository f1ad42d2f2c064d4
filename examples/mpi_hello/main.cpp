/// \file
/// An existing MPI program that calls ring attention: every process holds its share of one long sequence.
#include <rondo/comm/mpi.hpp>
#include <rondo/rondo.hpp>

#include <mpi.h>

#include <cstdio>
#include <exception>

int main(int argc, char** argv) {
  int level = 0;
  MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &level);
  Kokkos::initialize(argc, argv);
  try {
    rondo::mpi_communicator comm{MPI_COMM_WORLD};
    rondo::RingAttention attention{comm, rondo::Shape{.heads = 8, .head_dim = 64}, rondo::striped{10'000}};
    const auto mine = attention.tokens();
    Kokkos::View<float****> q("q", 1, mine, 8, 64), k("k", 1, mine, 8, 64), v("v", 1, mine, 8, 64),
        out("out", 1, mine, 8, 64);
    Kokkos::View<float***> lse("lse", 1, 8, mine);
    Kokkos::deep_copy(v, 1.0f + static_cast<float>(comm.rank()));

    attention.forward(q, k, v, out, lse, rondo::Problem{rondo::causal{}});  // sees the keys of all processes

    const auto result = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace{}, out);
    std::printf("rank %d of %d: %lld tokens, the last one's output is %.3f, the mean of all ranks' values\n",
                comm.rank(), comm.size(), static_cast<long long>(mine), result(0, mine - 1, 0, 0));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "mpi_hello: %s\n", error.what());
    rondo::abort_all(MPI_COMM_WORLD, 1);  // after a failure MPI_Finalize might wait for a rank that is gone
  }
  Kokkos::finalize();
  MPI_Finalize();
}
