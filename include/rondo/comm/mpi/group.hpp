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

  /// \param doing  what this rank was about, for the message
  /// \throws peer_failed, in the numbers of the communicator that asks
  void throw_if_failed(const Members& members, const std::string& doing = {}) const {
    if (!failure_) return;
    const int rank = members.rank_of(failure_->process);
    const std::string who = rank >= 0
                                ? detail::message("rank ", rank)
                                : detail::message("rank ", whole_.rank_of(failure_->process), " of the whole group");
    throw peer_failed(rank, detail::message(who, " failed: ", failure_->what, doing.empty() ? "" : "; ", doing));
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

  /// Polls until done(). Before it gives up, it asks the one it waits for, and whoever waits answers: a peer that is
  /// silent is the one to blame, one that itself waits for another is not, so there is time for that one's neighbour to
  /// name it.
  /// \param peer     peer(): the rank that is waited for
  /// \param doing    doing(): "rank 2 was at ...", for the message of a failure elsewhere
  /// \param give_up  give_up(text about the peer), called when it has not come about within the deadline: must throw
  template <class Done, class Peer, class Doing, class GiveUp>
  void wait(const Members& members, const Done& done, const Peer& peer, const Doing& doing, const GiveUp& give_up) {
    const auto begin = Clock::now();
    asked_.reset();
    for (Patience patience;; patience.pause()) {
      if (done()) break;
      if (patience.is_time_to_listen()) {
        waits_for_ = members.process(peer());
        listen();
      }
      if (failure_) {
        if (done()) break;  // what it needed had arrived
        throw_if_failed(members, doing());
      }
      const Deadline waited = Clock::now() - begin;
      if (waited < 0.85 * deadline_) continue;
      if (!asked_ || asked_->process != members.process(peer())) ask(members.process(peer()));
      if (waited > deadline_ || (waited > 0.95 * deadline_ && !asked_->waits_for)) {
        give_up(asked_->waits_for
                    ? detail::message(", which itself waits for rank ", members.rank_of(*asked_->waits_for))
                    : std::string());
      }
    }
  }

  /// Takes in what other ranks send and what MPI itself knows of failures.
  void listen() {
    for (int arrived = 1; arrived && !failure_;) {
      MPI_Status status;
      const int code = MPI_Iprobe(MPI_ANY_SOURCE, tag(), comm(), &arrived, &status);
      if (code != MPI_SUCCESS) return hear_of_failure(code);
      if (arrived) take_in(status.MPI_SOURCE);
    }
  }

 private:
  struct Failure {
    int process;
    std::string what;
  };
  struct Notice {
    enum class Kind { failure, question, answer } kind = Kind::failure;
    int process = 0;
    std::array<char, 500> what{};
  };
  struct Asked {
    int process;
    std::optional<int> waits_for;
  };
  /// A notice on its way to some ranks. Small messages leave at once; those that do not are left to themselves.
  struct Letters {
    Notice notice;
    std::vector<MPI_Request> requests;
  };

  int tag() const { return Duplicate::tag(whole_.context, Kind::notice); }

  void take_in(int source) {
    auto notice = std::make_unique<Notice>();
    MPI_Request request = MPI_REQUEST_NULL;
    int done = 0;
    if (MPI_Irecv(notice.get(), sizeof(Notice), MPI_BYTE, source, tag(), comm(), &request) != MPI_SUCCESS) return;
    for (const auto end = Clock::now() + deadline_; !done && Clock::now() < end;) {
      if (MPI_Test(&request, &done, MPI_STATUS_IGNORE) != MPI_SUCCESS) return;
    }
    if (!done) {
      static_cast<void>(notice.release());
    } else if (notice->kind == Notice::Kind::question) {
      send({Notice::Kind::answer, waits_for_, {}}, {source});
    } else if (notice->kind == Notice::Kind::answer) {
      if (asked_ && asked_->process == source) asked_->waits_for = notice->process;
    } else {
      failure_ = Failure{notice->process, std::string(notice->what.data())};
      duplicate_->abandon();
    }
  }

  void ask(int process) {
    asked_ = Asked{process, {}};
    send({Notice::Kind::question, process, {}}, {process});
  }

  /// Sends the failure to every other rank.
  void announce() {
    Notice notice{Notice::Kind::failure, failure_->process, {}};
    failure_->what.copy(notice.what.data(), notice.what.size() - 1);
    std::vector<int> processes;
    for (const int process : whole_.processes) {
      if (process != whole_.process(whole_.rank) && process != failure_->process) processes.push_back(process);
    }
    send(notice, processes);
  }

  void send(const Notice& notice, const std::vector<int>& processes) {
    auto letters = std::make_unique<Letters>();
    letters->notice = notice;
    letters->requests.assign(processes.size(), MPI_REQUEST_NULL);
    for (std::size_t i = 0; i < processes.size(); ++i) {
      if (MPI_Isend(&letters->notice, sizeof(Notice), MPI_BYTE, processes[i], tag(), comm(), &letters->requests[i]) !=
          MPI_SUCCESS) {
        letters->requests[i] = MPI_REQUEST_NULL;
      }
    }
    bool left = false;
    const auto end = Clock::now() + std::min<Deadline>(0.02 * deadline_, Deadline(0.2));
    for (Patience patience; !left && Clock::now() < end; patience.pause()) {
      left = true;
      for (MPI_Request& request : letters->requests) {
        int done = 1;
        if (request == MPI_REQUEST_NULL) continue;
        if (MPI_Test(&request, &done, MPI_STATUS_IGNORE) != MPI_SUCCESS) request = MPI_REQUEST_NULL;
        left = left && done;
      }
    }
    if (!left) static_cast<void>(letters.release());
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
  std::optional<Asked> asked_;
  int waits_for_ = 0;
};

}  // namespace rondo::mpi
