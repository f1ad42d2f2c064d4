/// \file
/// Ranks that fail together: how they wait for each other, and how the news of a failure reaches all of them.
#pragma once

#include <rondo/comm/concept.hpp>
#include <rondo/comm/mpi/duplicate.hpp>
#include <rondo/comm/mpi/error.hpp>
#include <rondo/error.hpp>

#include <mpi.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace rondo::mpi {

/// The ranks of one communicator, as ranks of the duplicate, and the context that its messages carry.
struct Members {
  int context = 0;
  int rank = 0;
  std::vector<int> processes;

  int size() const { return static_cast<int>(processes.size()); }
  int process(int of_rank) const { return processes[static_cast<std::size_t>(of_rank)]; }
  int rank_of(int process) const {
    const auto found = std::find(processes.begin(), processes.end(), process);
    return found == processes.end() ? -1 : static_cast<int>(found - processes.begin());
  }
};

/// How a rank waits: at first it asks again at once, then it lets others have the core, at last it sleeps in between.
class Patience {
 public:
  void pause() {
    ++asked_;
    if (asked_ < 100) return;
    if (asked_ < 2000) {
      std::this_thread::yield();
    } else {
      std::this_thread::sleep_for(std::chrono::microseconds(50));
    }
  }
  bool is_time_to_listen() const { return asked_ % 32 == 31 || asked_ > 2000; }

 private:
  int asked_ = 0;
};

/// A communicator and all that were split off it. What breaks one of them breaks all: ranks that wait for each other in
/// several communicators would wait in vain otherwise. The rank that meets the failure sends every other one a notice,
/// which whoever waits listens for. That is what MPIX_Comm_revoke does, without the need for an MPI that has it, and it
/// leaves the duplicate usable for those who go on.
class Group {
 public:
  Group(std::shared_ptr<Duplicate> duplicate, Members whole, Deadline deadline)
      : duplicate_(std::move(duplicate)), whole_(std::move(whole)), deadline_(deadline) {}

  Duplicate& duplicate() const { return *duplicate_; }
  const std::shared_ptr<Duplicate>& shared_duplicate() const { return duplicate_; }
  MPI_Comm comm() const { return duplicate_->comm(); }
  Deadline deadline() const { return deadline_; }
  /// The ranks of the communicator that the others were split off.
  const Members& whole() const { return whole_; }
  bool has_failed() const { return failure_.has_value(); }

  /// \throws peer_failed, in the numbers of the communicator that asks
  void throw_if_failed(const Members& members) const {
    if (!failure_) return;
    const int rank = members.rank_of(failure_->process);
    const std::string who = rank >= 0
                                ? detail::message("rank ", rank)
                                : detail::message("rank ", whole_.rank_of(failure_->process), " of the whole group");
    throw peer_failed(rank, detail::message(who, " failed: ", failure_->what));
  }

  /// This group is of no use any more. The first failure counts; every other rank is told of it.
  void fail(int process, const std::string& what) {
    if (failure_) return;
    failure_ = Failure{process, what};
    duplicate_->abandon();
    announce();
  }

  /// Leaves a call with an exception that the others hear of.
  template <class Error>
  [[noreturn]] void abandon(const Error& error) {
    fail(whole_.process(whole_.rank), error.what());
    throw error;
  }

  /// Polls until done().
  /// \param give_up  called when it has not come about within `limit`: must throw
  template <class Done, class GiveUp>
  void wait(const Members& members, Deadline limit, const Done& done, const GiveUp& give_up) {
    const auto end = Clock::now() + limit;
    for (Patience patience;; patience.pause()) {
      if (done()) return;
      if (patience.is_time_to_listen()) listen();
      if (failure_) {
        if (done()) return;  // what it needed had arrived
        throw_if_failed(members);
      }
      if (Clock::now() > end) give_up();
    }
  }

  /// Takes in notices of other ranks and what MPI itself knows of failures.
  void listen() {
    int arrived = 0;
    MPI_Status status;
    const int code = MPI_Iprobe(MPI_ANY_SOURCE, tag(), comm(), &arrived, &status);
    if (code != MPI_SUCCESS) return hear_of_failure(code);
    if (!arrived || failure_) return;
    auto notice = std::make_unique<Notice>();
    MPI_Request request = MPI_REQUEST_NULL;
    int done = 0;
    if (MPI_Irecv(notice.get(), sizeof(Notice), MPI_BYTE, status.MPI_SOURCE, tag(), comm(), &request) != MPI_SUCCESS)
      return;
    for (const auto end = Clock::now() + deadline_; !done && Clock::now() < end;) {
      if (MPI_Test(&request, &done, MPI_STATUS_IGNORE) != MPI_SUCCESS) done = 1;
    }
    if (!done) {
      static_cast<void>(notice.release());
      return;
    }
    failure_ = Failure{notice->process, std::string(notice->what.data())};
    duplicate_->abandon();
  }

 private:
  struct Failure {
    int process;
    std::string what;
  };
  struct Notice {
    int process = 0;
    std::array<char, 500> what{};
  };

  int tag() const { return Duplicate::tag(whole_.context, Kind::notice); }

  /// Sends the failure to every other rank. Small messages leave at once; those that do not are left to themselves.
  void announce() {
    struct Letters {
      Notice notice;
      std::vector<MPI_Request> requests;
    };
    auto letters = std::make_unique<Letters>();
    letters->notice.process = failure_->process;
    failure_->what.copy(letters->notice.what.data(), letters->notice.what.size() - 1);
    for (int rank = 0; rank < whole_.size(); ++rank) {
      if (rank == whole_.rank || whole_.process(rank) == failure_->process) continue;
      letters->requests.push_back(MPI_REQUEST_NULL);
      if (MPI_Isend(&letters->notice, sizeof(Notice), MPI_BYTE, whole_.process(rank), tag(), comm(),
                    &letters->requests.back()) != MPI_SUCCESS) {
        letters->requests.pop_back();
      }
    }
    std::size_t left = letters->requests.size();
    const auto end = Clock::now() + std::min<Deadline>(deadline_, Deadline(0.2));
    for (Patience patience; left > 0 && Clock::now() < end; patience.pause()) {
      left = 0;
      for (MPI_Request& request : letters->requests) {
        int done = 1;
        if (request == MPI_REQUEST_NULL) continue;
        if (MPI_Test(&request, &done, MPI_STATUS_IGNORE) != MPI_SUCCESS) request = MPI_REQUEST_NULL;
        if (!done) ++left;
      }
    }
    if (left > 0) static_cast<void>(letters.release());
  }

  void hear_of_failure(int code) {
    if (failure_) return;
    if (!says_failed(code)) return fail(whole_.process(whole_.rank), detail::message("MPI_Iprobe: ", text(code)));
    for (const int process : failed_processes()) {
      if (whole_.rank_of(process) >= 0) return fail(process, "MPI says that its process has died");
    }
  }

  /// Those of the duplicate that MPI knows to have died, whom it will not mention again.
  std::vector<int> failed_processes() const {
    std::vector<int> failed;
#if defined(MPIX_ERR_PROC_FAILED)
    MPI_Group all = MPI_GROUP_NULL;
    MPI_Group dead = MPI_GROUP_NULL;
    if (MPIX_Comm_failure_ack(comm()) != MPI_SUCCESS || MPIX_Comm_failure_get_acked(comm(), &dead) != MPI_SUCCESS)
      return failed;
    int count = 0;
    MPI_Comm_group(comm(), &all);
    MPI_Group_size(dead, &count);
    for (int i = 0; i < count; ++i) {
      int process = MPI_UNDEFINED;
      MPI_Group_translate_ranks(dead, 1, &i, all, &process);
      failed.push_back(process);
    }
    if (count > 0) MPI_Group_free(&dead);
    MPI_Group_free(&all);
#endif
    return failed;
  }

  std::shared_ptr<Duplicate> duplicate_;
  Members whole_;
  Deadline deadline_;
  std::optional<Failure> failure_;
};

}  // namespace rondo::mpi
