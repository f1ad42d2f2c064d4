/// \file
/// Who is left after a failure? The ranks that still answer agree on it by themselves: MPIX_Comm_shrink waits for ever
/// for a process that is stopped but not dead, and few launchers let an MPI that has it go on after a death.
#pragma once

#include <rondo/comm/mpi/group.hpp>

#include <mpi.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace rondo::mpi {

/// The roll call of a group that has failed. Three rounds, in each of which everyone tells everyone and waits for those
/// of whom it knows, at most a deadline long:
///  1. who is here? Whoever has not answered by then is out.
///  2. whom has everyone seen? Out is who was missed by any. Who finds itself out throws.
///  3. does everyone mean the same set? If not, everyone throws; the group can be called again.
class RollCall {
 public:
  explicit RollCall(Group& group) : group_(group) {
    for (int rank = 0; rank < ranks(); ++rank) peers_.push_back(std::make_unique<Peer>(words()));
  }
  /// Receives may still be posted, and letters on their way.
  ~RollCall() {
    for (auto& peer : peers_) static_cast<void>(peer.release());
  }
  RollCall(const RollCall&) = delete;
  RollCall& operator=(const RollCall&) = delete;

  /// The survivors, with a context that none of them has used.
  /// \throws peer_failed when another takes this rank for gone; agreement_error when ranks see different survivors
  Members survivors() {
    ++attempt_;
    const int me = group_.whole().rank;
    Set here(words(), 0);
    for (int rank = 0; rank < ranks(); ++rank) insert(here, rank);
    context_ = group_.duplicate().next_context();
    here = answered(1, here, here);
    Set seen = here;
    const Set told = answered(2, here, here);
    for_each(here, [&](int rank) {
      if (rank == me) return;
      for (std::size_t i = 0; i < words(); ++i) {
        seen[i] &= contains(told, rank) ? letter_of(rank, 2)->set[i] : seen[i];
      }
      if (!contains(told, rank)) erase(seen, rank);
    });
    if (!contains(seen, me)) {
      throw peer_failed(me, detail::message("rank ", me, " was taken for gone by another: it answered too late"));
    }
    const Set confirmed = answered(3, seen, seen);
    for_each(seen, [&](int rank) {
      const bool same = rank == me || (contains(confirmed, rank) && letter_of(rank, 3)->set == seen);
      if (!same) {
        throw agreement_error(detail::message("rank ", me, " and rank ", rank,
                                              " see different survivors: another rank ",
                                              "failed meanwhile; shrink can be called again"));
      }
    });
    return members_of(seen);
  }

 private:
  using Set = std::vector<std::uint64_t>;
  struct Letter {
    int attempt, round, context;
    Set set;
  };
  /// What has come from a rank, and what is under way from and to it.
  struct Peer {
    explicit Peer(std::size_t words) : arriving(header + words) {}
    std::vector<Letter> letters;
    std::vector<std::uint64_t> arriving;
    MPI_Request receive = MPI_REQUEST_NULL;
    std::array<std::vector<std::uint64_t>, 3> leaving;
    std::array<MPI_Request, 3> send{MPI_REQUEST_NULL, MPI_REQUEST_NULL, MPI_REQUEST_NULL};
    bool is_dead = false;
  };
  static constexpr std::size_t header = 3;

  int ranks() const { return group_.whole().size(); }
  std::size_t words() const { return (static_cast<std::size_t>(ranks()) + 63) / 64; }
  int tag() const { return Duplicate::tag(group_.whole().context, Kind::roll_call); }
  Peer& peer(int rank) { return *peers_[static_cast<std::size_t>(rank)]; }

  static std::uint64_t bit(int rank) { return std::uint64_t{1} << (rank % 64); }
  static void insert(Set& set, int rank) { set[static_cast<std::size_t>(rank / 64)] |= bit(rank); }
  static void erase(Set& set, int rank) { set[static_cast<std::size_t>(rank / 64)] &= ~bit(rank); }
  static bool contains(const Set& set, int rank) { return (set[static_cast<std::size_t>(rank / 64)] & bit(rank)) != 0; }
  template <class F>
  void for_each(const Set& set, const F& f) const {
    for (int rank = 0; rank < ranks(); ++rank) {
      if (contains(set, rank)) f(rank);
    }
  }

  /// Tells `set` to all of `asked` and returns those of them who told theirs, this rank with them.
  Set answered(int round, const Set& asked, const Set& set) {
    const int me = group_.whole().rank;
    for_each(asked, [&](int rank) {
      if (rank != me) send(rank, round, set);
    });
    const auto end = Clock::now() + group_.deadline();
    Set answers(words(), 0);
    for (Patience patience;; patience.pause()) {
      bool complete = true;
      for_each(asked, [&](int rank) {
        if (rank != me && !contains(answers, rank) && !peer(rank).is_dead) {
          listen(rank);
          if (letter_of(rank, round) == nullptr) complete = false;
        }
        if (rank == me || letter_of(rank, round) != nullptr) insert(answers, rank);
      });
      if (complete || Clock::now() > end) return answers;
    }
  }

  void send(int rank, int round, const Set& set) {
    Peer& to = peer(rank);
    auto& bytes = to.leaving[static_cast<std::size_t>(round - 1)];
    auto& request = to.send[static_cast<std::size_t>(round - 1)];
    int done = 1;
    if (request != MPI_REQUEST_NULL && (MPI_Test(&request, &done, MPI_STATUS_IGNORE) != MPI_SUCCESS || !done)) {
      to.is_dead = true;  // it has not even taken the letter of an earlier attempt
      return;
    }
    bytes = {static_cast<std::uint64_t>(attempt_), static_cast<std::uint64_t>(round),
             static_cast<std::uint64_t>(context_)};
    bytes.insert(bytes.end(), set.begin(), set.end());
    if (MPI_Isend(bytes.data(), static_cast<int>(bytes.size() * sizeof(std::uint64_t)), MPI_BYTE,
                  group_.whole().process(rank), tag(), group_.comm(), &request) != MPI_SUCCESS) {
      request = MPI_REQUEST_NULL;
      to.is_dead = true;
    }
  }

  /// Takes in what has come from a rank.
  void listen(int rank) {
    Peer& from = peer(rank);
    for (int done = 1; done;) {
      if (from.receive == MPI_REQUEST_NULL &&
          MPI_Irecv(from.arriving.data(), static_cast<int>(from.arriving.size() * sizeof(std::uint64_t)), MPI_BYTE,
                    group_.whole().process(rank), tag(), group_.comm(), &from.receive) != MPI_SUCCESS) {
        from.is_dead = true;
        return;
      }
      if (MPI_Test(&from.receive, &done, MPI_STATUS_IGNORE) != MPI_SUCCESS) {
        from.receive = MPI_REQUEST_NULL;
        from.is_dead = true;
        return;
      }
      if (!done) return;
      const auto& words = from.arriving;
      from.letters.push_back({static_cast<int>(words[0]), static_cast<int>(words[1]), static_cast<int>(words[2]),
                              Set(words.begin() + header, words.end())});
    }
  }

  const Letter* letter_of(int rank, int round) {
    for (const Letter& letter : peer(rank).letters) {
      if (letter.attempt == attempt_ && letter.round == round) return &letter;
    }
    return nullptr;
  }

  Members members_of(const Set& set) {
    Members members;
    members.context = context_;
    for_each(set, [&](int rank) {
      if (rank == group_.whole().rank) {
        members.rank = members.size();
      } else {
        members.context = std::max(members.context, letter_of(rank, 3)->context);
      }
      members.processes.push_back(group_.whole().process(rank));
    });
    group_.duplicate().take_context(members.context);
    return members;
  }

  Group& group_;
  int attempt_ = 0;
  int context_ = 0;
  std::vector<std::unique_ptr<Peer>> peers_;
};

}  // namespace rondo::mpi
