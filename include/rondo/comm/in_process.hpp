/// \file
/// A ring of ranks in one process: every rank is a thread with an execution-space instance of its own.
#pragma once

#include <rondo/comm/in_process/communicator.hpp>
#include <rondo/comm/in_process/instance.hpp>

#include <exception>
#include <memory>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

namespace rondo {

/// Settings of an in-process group.
struct InProcessOptions {
  int threads_per_rank = 1;  ///< threads of each rank's instance, where Exec has threads (Kokkos::OpenMP)
  Deadline deadline{300};    ///< seconds that any call waits for its peers
};

/// N ranks on N threads. `run` calls a function once per rank and returns when all have.
template <class Exec = Kokkos::DefaultExecutionSpace, class S = streams_or_none<Exec>>
class in_process_group {
 public:
  using communicator = in_process_communicator<Exec, S>;

  /// \throws argument_error for less than one rank or thread, or a deadline that is not positive
  explicit in_process_group(int ranks, InProcessOptions options = {}) : ranks_(ranks), options_(options) {
    if (ranks < 1) throw argument_error(detail::message("in_process_group of ", ranks, " ranks: at least 1 is needed"));
    if (options.threads_per_rank < 1) {
      throw argument_error(detail::message("in_process_group: ", options.threads_per_rank, " threads per rank"));
    }
    if (!(options.deadline.count() > 0)) {
      throw argument_error(detail::message("in_process_group: a deadline of ", options.deadline.count(), " s"));
    }
  }

  int size() const { return ranks_; }

  /// Calls work(comm) on every rank's thread. When a rank throws, every other rank's call into Rondo throws
  /// peer_failed at once; when all threads have ended, the first exception is thrown again here.
  template <class Work>
    requires std::invocable<Work&, communicator&>
  void run(Work&& work) {
    auto hub = std::make_shared<typename communicator::HubType>(ranks_, options_.deadline);
    auto members = std::make_shared<in_process::Membership>();
    members->threads.resize(static_cast<std::size_t>(ranks_));
    std::iota(members->threads.begin(), members->threads.end(), 0);

    const auto rank_main = [&](int rank) {
      try {
        communicator comm(hub, members, rank, in_process::make_instance<Exec>(options_.threads_per_rank));
        work(comm);
        if constexpr (communicator::stream_ordered) hub->finish_unless_failed(rank);
      } catch (const std::exception& exception) {
        hub->fail(rank, exception.what(), std::current_exception());
      } catch (...) {
        hub->fail(rank, "an exception that is no std::exception", std::current_exception());
      }
      if constexpr (communicator::stream_ordered) hub->finish_quietly(rank);
      hub->leave(rank);
    };
    {
      std::vector<std::jthread> threads;
      for (int rank = 0; rank < ranks_; ++rank) {
        try {
          threads.emplace_back(rank_main, rank);
        } catch (const std::exception& exception) {  // no more threads to be had: those that run must not wait for it
          hub->fail(rank, exception.what(), std::current_exception());
          break;
        }
      }
    }
    if (const auto exception = hub->original_exception()) std::rethrow_exception(exception);
  }

 private:
  int ranks_;
  InProcessOptions options_;
};

}  // namespace rondo
