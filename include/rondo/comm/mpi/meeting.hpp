/// \file
/// Collectives of a few bytes: everyone's values go up a tree to rank 0 and the result comes down again. All of it is
/// made of messages between two ranks, so that a rank knows whom it waits for and can leave at the deadline.
#pragma once

#include <rondo/comm/mpi/group.hpp>

#include <mpi.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace rondo::mpi {

/// A buffer that MPI may still use when its owner goes: then it stays until the process ends.
class Letter {
 public:
  Letter() = default;
  Letter(const Letter&) = delete;
  Letter& operator=(const Letter&) = delete;
  ~Letter() {
    if (requests_.empty()) return;
    new std::vector<MPI_Request>(std::move(requests_));
    new std::vector<std::byte>(std::move(bytes_));
  }

  std::vector<std::byte>& bytes() { return bytes_; }

  void send(const Group& group, int process, int tag, std::size_t begin, std::size_t count) {
    start("MPI_Isend", [&](MPI_Request* request) {
      return MPI_Isend(bytes_.data() + begin, static_cast<int>(count), MPI_BYTE, process, tag, group.comm(), request);
    });
  }
  void receive(const Group& group, int process, int tag, std::size_t begin, std::size_t count) {
    start("MPI_Irecv", [&](MPI_Request* request) {
      return MPI_Irecv(bytes_.data() + begin, static_cast<int>(count), MPI_BYTE, process, tag, group.comm(), request);
    });
  }

  /// True when all has left or arrived. \return MPI's code in `code`
  bool test(int& code) {
    while (code == MPI_SUCCESS && !requests_.empty()) {
      int done = 0;
      MPI_Status status;
      code = MPI_Test(&requests_.back(), &done, &status);
      if (code != MPI_SUCCESS || !done) return false;
      MPI_Get_count(&status, MPI_BYTE, &received_);
      requests_.pop_back();
    }
    return code == MPI_SUCCESS;
  }
  /// Bytes of the last message that arrived.
  std::size_t received() const { return static_cast<std::size_t>(received_); }

 private:
  template <class Start>
  void start(const char* function, const Start& call) {
    requests_.push_back(MPI_REQUEST_NULL);
    const int code = call(&requests_.back());
    if (code == MPI_SUCCESS) return;
    requests_.pop_back();
    check(code, function);
  }

  std::vector<std::byte> bytes_;
  std::vector<MPI_Request> requests_;
  int received_ = 0;
};

/// Waits for a letter that goes to or comes from `peer`, within a collective.
inline void wait_for(Group& group, const Members& members, Letter& letter, int peer, std::string_view what) {
  int code = MPI_SUCCESS;
  const auto done = [&] {
    if (letter.test(code)) return true;
    if (code == MPI_SUCCESS) return false;
    if (!says_failed(code)) {
      group.abandon(
          error(detail::message("rank ", members.rank, ": ", text(code), ", at ", what, " with rank ", peer)));
    }
    group.fail(members.process(peer), "its process has died");
    throw peer_failed(peer, detail::message("rank ", members.rank, " cannot finish ", what, ": the process of rank ",
                                            peer, " has died"));
  };
  const auto doing = [&] { return detail::message("rank ", members.rank, " was at ", what, " with rank ", peer); };
  group.wait(
      members, done, [peer] { return peer; }, doing,
      [&](const std::string& about_peer) {
        group.abandon(timeout_error(peer, detail::message("rank ", members.rank, " waited ", group.deadline().count(),
                                                          " s for rank ", peer, about_peer, ", at ", what)));
      });
}

/// Where the ranks of one communicator meet. Messages never exceed a size that all know, so that ranks which mean
/// different collectives understand each other well enough to say so.
class Meeting {
 public:
  /// The most bytes that the ranks together may bring.
  static std::size_t capacity(int ranks) { return std::max<std::size_t>(32768, 64 * static_cast<std::size_t>(ranks)); }

  /// Brings this rank's payload; afterwards it is the whole's.
  /// \param merge  merge(payload, from higher ranks): adds what a later rank's part of the tree brought
  /// \throws agreement_error on every rank when the signatures differ; timeout_error, peer_failed
  template <class Merge>
  void meet(Group& group, const Members& members, std::string_view signature, std::vector<std::byte>& payload,
            const Merge& merge) {
    group.throw_if_failed(members);
    const int tag = Duplicate::tag(members.context, Kind::meeting);
    const std::size_t most = sizeof(Header) + capacity(members.size());
    Header header{};
    signature.copy(header.signature.data(), header.signature.size() - 1);
    // Up: after each child, this rank speaks for the ranks up to that child's last.
    int mask = 1;
    for (; mask < members.size() && (members.rank & mask) == 0; mask <<= 1) {
      const int child = members.rank + mask;
      if (child >= members.size()) continue;
      theirs_.bytes().resize(most);
      theirs_.receive(group, members.process(child), tag, 0, most);
      wait_for(group, members, theirs_, child, signature);
      take_in(header, members.rank, child, payload, merge);
    }
    const bool is_root = members.rank == 0;
    if (!is_root) {
      const int parent = members.rank - mask;
      pack(header, payload);
      mine_.send(group, members.process(parent), tag, 0, mine_.bytes().size());
      wait_for(group, members, mine_, parent, signature);
      theirs_.bytes().resize(most);
      theirs_.receive(group, members.process(parent), tag, 0, most);
      wait_for(group, members, theirs_, parent, signature);
      std::memcpy(&header, theirs_.bytes().data(), sizeof header);
      payload.assign(theirs_.bytes().begin() + sizeof header,
                     theirs_.bytes().begin() + static_cast<std::ptrdiff_t>(theirs_.received()));
    }
    // Down: to the children, the one that speaks for most ranks first.
    if (header.refusal[0] != '\0') payload.clear();
    pack(header, payload);
    for (mask >>= 1; mask > 0; mask >>= 1) {
      const int child = members.rank + mask;
      if (child >= members.size()) continue;
      mine_.send(group, members.process(child), tag, 0, mine_.bytes().size());
      wait_for(group, members, mine_, child, signature);
    }
    if (header.refusal[0] != '\0') throw agreement_error(header.refusal.data());
  }

 private:
  struct Header {
    std::array<char, 96> signature{};
    std::array<char, 256> refusal{};
  };

  void pack(const Header& header, const std::vector<std::byte>& payload) {
    mine_.bytes().resize(sizeof header + payload.size());
    std::memcpy(mine_.bytes().data(), &header, sizeof header);
    std::copy(payload.begin(), payload.end(), mine_.bytes().begin() + sizeof header);
  }

  template <class Merge>
  void take_in(Header& header, int rank, int child, std::vector<std::byte>& payload, const Merge& merge) {
    Header other;
    const auto& bytes = theirs_.bytes();
    std::memcpy(&other, bytes.data(), sizeof other);
    if (header.refusal[0] != '\0') return;
    if (other.refusal[0] != '\0') {
      header.refusal = other.refusal;
    } else if (header.signature != other.signature) {
      const std::string text = detail::message("rank ", rank, " calls ", header.signature.data(), " where rank ", child,
                                               " calls ", other.signature.data());
      text.copy(header.refusal.data(), header.refusal.size() - 1);
    } else {
      merge(payload, std::span<const std::byte>(bytes).subspan(sizeof other, theirs_.received() - sizeof other));
    }
  }

  Letter mine_;
  Letter theirs_;
};

}  // namespace rondo::mpi
