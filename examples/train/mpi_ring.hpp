/// \file
/// The ring over MPI: ranks are processes that mpiexec has started, and a run outlives some of them.
#pragma once

#include "run.hpp"

#include <rondo/comm/mpi.hpp>

#include <mpi.h>

#include <cstdio>
#include <filesystem>
#include <memory>
#include <numeric>
#include <utility>

namespace train {

/// MPI from the beginning of the program to its end.
class MpiScope {
 public:
  MpiScope() {
    int level = 0;
    MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &level);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank_);
    MPI_Comm_size(MPI_COMM_WORLD, &size_);
  }
  ~MpiScope() { MPI_Finalize(); }
  MpiScope(const MpiScope&) = delete;
  MpiScope& operator=(const MpiScope&) = delete;

  int rank() const { return rank_; }
  int size() const { return size_; }

 private:
  int rank_ = 0;
  int size_ = 1;
};

/// One rank's run. When another rank fails, those that are left go on from the last checkpoint, or from the beginning if
/// there is none yet. (The launcher has to let them live: mpiexec --with-ft ulfm of Open MPI.)
/// \param ranks  how many are left at the end
inline Outcome run_over_mpi(Options options, const Corpus& corpus, int& ranks, bool& speaks) {
  using Comm = rondo::mpi_communicator<Kokkos::DefaultHostExecutionSpace>;
  auto comm = std::make_unique<Comm>(MPI_COMM_WORLD, rondo::MpiOptions{.deadline = rondo::Deadline{options.deadline}});
  const int rings = options.data_parallel;
  for (;;) {
    try {
      Outcome outcome = run_rank(*comm, options, corpus);
      ranks = comm->size();
      speaks = comm->rank() == 0;
      return outcome;
    } catch (const rondo::peer_failed& failure) {
      std::fprintf(stderr, "\ntrain: %s\n", failure.what());
    } catch (const rondo::timeout_error& failure) {
      std::fprintf(stderr, "\ntrain: %s\n", failure.what());
    }
    if (options.checkpoint.empty()) throw refusal("a rank has failed, and there is no --checkpoint to go on from");
    comm = std::make_unique<Comm>(comm->shrink());
    // Rank 0 says whether there is a checkpoint, so that all do the same.
    options.resume = comm->agree(comm->rank() != 0 || std::filesystem::exists(options.checkpoint));
    options.ranks = comm->size();
    options.data_parallel = std::gcd(rings, comm->size());  // rings of equal size, for the same batch
    if (comm->rank() == 0) {
      std::printf("train: going on with %d ranks%s\n", options.ranks, in_rings(options).c_str());
      std::fflush(stdout);
    }
  }
}

}  // namespace train
