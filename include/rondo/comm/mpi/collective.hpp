/// \file
/// all_reduce, broadcast and gathering over MPI, of any length: small ones in one meeting, large ones in rounds after a
/// meeting that makes sure that all ranks mean the same.
#pragma once

#include <rondo/comm/concept.hpp>
#include <rondo/comm/mpi/meeting.hpp>
#include <rondo/comm/reduction.hpp>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <span>
#include <string_view>
#include <type_traits>
#include <vector>

namespace rondo::mpi {

/// The collectives of one communicator. MPI never gets the caller's memory, which may be gone when a call has failed.
class Collective {
 public:
  /// Returns when every rank has come.
  void barrier(Group& group, const Members& members, std::string_view signature) {
    payload_.clear();
    meeting_.meet(group, members, signature, payload_, [](auto&, auto) {});
  }

  /// The values of all ranks, one after the other. For a few bytes a rank.
  template <class T>
  std::vector<T> gather(Group& group, const Members& members, std::string_view signature, const T& mine) {
    const auto* bytes = reinterpret_cast<const std::byte*>(&mine);
    payload_.assign(bytes, bytes + sizeof(T));
    meeting_.meet(group, members, signature, payload_, append);
    std::vector<T> all(members.processes.size());
    std::memcpy(all.data(), payload_.data(), payload_.size());
    return all;
  }

  /// Combines in the order of ranks, in place.
  template <class T>
  void all_reduce(Group& group, const Members& members, std::string_view signature, std::span<T> values,
                  Reduction reduction) {
    const std::size_t ranks = members.processes.size();
    const std::size_t capacity = Meeting::capacity(members.size());
    // Sums of floating-point numbers depend on their order: rank 0 gets all numbers and adds them up.
    const bool in_any_order = std::is_integral_v<T> || reduction != Reduction::sum;
    const auto bytes = std::as_writable_bytes(values);
    payload_.assign(bytes.begin(), bytes.end());
    if (in_any_order && bytes.size() <= capacity) {
      meeting_.meet(group, members, signature, payload_, [&](auto& total, std::span<const std::byte> higher) {
        detail::combine(reinterpret_cast<T*>(total.data()), reinterpret_cast<const T*>(higher.data()), values.size(),
                        reduction);
      });
    } else if (ranks * bytes.size() <= capacity) {
      meeting_.meet(group, members, signature, payload_, append);
      for (std::size_t rank = 1; rank < ranks; ++rank) {
        detail::combine(reinterpret_cast<T*>(payload_.data()),
                        reinterpret_cast<const T*>(payload_.data()) + rank * values.size(), values.size(), reduction);
      }
    } else {
      barrier(group, members, signature);
      return reduce_in_rounds(group, members, signature, values, reduction);
    }
    std::copy_n(payload_.begin(), bytes.size(), bytes.begin());
  }

  /// Copies the bytes of rank `root` to all.
  void broadcast(Group& group, const Members& members, std::string_view signature, std::span<std::byte> bytes,
                 int root) {
    if (bytes.size() <= Meeting::capacity(members.size())) {
      payload_.clear();
      if (members.rank == root) payload_.assign(bytes.begin(), bytes.end());
      meeting_.meet(group, members, signature, payload_, append);
      std::copy(payload_.begin(), payload_.end(), bytes.begin());
    } else {
      barrier(group, members, signature);
      broadcast_in_rounds(group, members, signature, bytes, root);
    }
  }

 private:
  static constexpr std::size_t round_bytes = std::size_t{1} << 22;

  static constexpr auto append = [](std::vector<std::byte>& payload, std::span<const std::byte> higher) {
    payload.insert(payload.end(), higher.begin(), higher.end());
  };

  /// In each round every rank adds up one part of the numbers, which the others send it, and sends them the sums.
  template <class T>
  void reduce_in_rounds(Group& group, const Members& members, std::string_view what, std::span<T> values,
                        Reduction reduction) {
    const int tag = Duplicate::tag(members.context, Kind::bulk);
    const auto ranks = members.processes.size();
    const auto me = static_cast<std::size_t>(members.rank);
    const std::size_t part = std::max<std::size_t>(1, round_bytes / sizeof(T) / ranks);
    letters_.resize_to(ranks);
    for (std::size_t begin = 0; begin < values.size(); begin += part * ranks) {
      const auto part_of = [&](std::size_t rank) {
        const std::size_t from = std::min(values.size(), begin + rank * part);
        return values.subspan(from, std::min(part, values.size() - from));
      };
      // Each rank's numbers of my part come to me, mine of the others' parts go to them.
      for_others(members, [&](std::size_t other) {
        letters_.in(other).bytes().resize(part_of(me).size_bytes());
        letters_.in(other).receive(group, members.process(static_cast<int>(other)), tag, 0, part_of(me).size_bytes());
        const auto bytes = std::as_bytes(part_of(other));
        letters_.out(other).bytes().assign(bytes.begin(), bytes.end());
        letters_.out(other).send(group, members.process(static_cast<int>(other)), tag, 0, bytes.size());
      });
      wait_for_all(group, members, what);
      const std::span<T> sums = part_of(me);
      mine_.assign(std::as_bytes(sums).begin(), std::as_bytes(sums).end());
      for (std::size_t rank = 0; rank < ranks; ++rank) {
        const std::byte* from = rank == me ? mine_.data() : letters_.in(rank).bytes().data();
        if (rank == 0) {
          std::copy_n(from, sums.size_bytes(), std::as_writable_bytes(sums).begin());
        } else {
          detail::combine(sums.data(), reinterpret_cast<const T*>(from), sums.size(), reduction);
        }
      }
      // The sums of my part go to all, theirs come to me.
      for_others(members, [&](std::size_t other) {
        letters_.in(other).bytes().resize(part_of(other).size_bytes());
        letters_.in(other).receive(group, members.process(static_cast<int>(other)), tag, 0,
                                   part_of(other).size_bytes());
        letters_.out(other).bytes().assign(std::as_bytes(sums).begin(), std::as_bytes(sums).end());
        letters_.out(other).send(group, members.process(static_cast<int>(other)), tag, 0, sums.size_bytes());
      });
      wait_for_all(group, members, what);
      for_others(members, [&](std::size_t other) {
        const auto& bytes = letters_.in(other).bytes();
        std::copy(bytes.begin(), bytes.end(), std::as_writable_bytes(part_of(other)).begin());
      });
    }
  }

  /// Piece by piece down a tree whose root is rank `root`.
  void broadcast_in_rounds(Group& group, const Members& members, std::string_view what, std::span<std::byte> bytes,
                           int root) {
    const int tag = Duplicate::tag(members.context, Kind::bulk);
    const int ranks = members.size();
    const int place = (members.rank - root + ranks) % ranks;
    const auto rank_at = [&](int other) { return (other + root) % ranks; };
    letters_.resize_to(1);
    Letter& letter = letters_.in(0);
    for (std::size_t begin = 0; begin < bytes.size(); begin += round_bytes) {
      const auto piece = bytes.subspan(begin, std::min(round_bytes, bytes.size() - begin));
      letter.bytes().assign(piece.begin(), piece.end());
      int mask = 1;
      while (mask < ranks && (place & mask) == 0) mask <<= 1;
      if (place != 0) {
        const int parent = rank_at(place - mask);
        letter.receive(group, members.process(parent), tag, 0, piece.size());
        wait_for(group, members, letter, parent, what);
        std::copy(letter.bytes().begin(), letter.bytes().end(), piece.begin());
      }
      for (mask >>= 1; mask > 0; mask >>= 1) {
        if (place + mask >= ranks) continue;
        const int child = rank_at(place + mask);
        letter.send(group, members.process(child), tag, 0, piece.size());
        wait_for(group, members, letter, child, what);
      }
    }
  }

  template <class F>
  static void for_others(const Members& members, const F& f) {
    for (int distance = 1; distance < members.size(); ++distance) {
      f(static_cast<std::size_t>((members.rank + distance) % members.size()));
    }
  }
  void wait_for_all(Group& group, const Members& members, std::string_view what) {
    for_others(members, [&](std::size_t other) {
      wait_for(group, members, letters_.in(other), static_cast<int>(other), what);
      wait_for(group, members, letters_.out(other), static_cast<int>(other), what);
    });
  }

  /// A letter from and one to each rank.
  class Letters {
   public:
    void resize_to(std::size_t ranks) {
      while (letters_.size() < 2 * ranks) letters_.push_back(std::make_unique<Letter>());
    }
    Letter& in(std::size_t rank) { return *letters_[2 * rank]; }
    Letter& out(std::size_t rank) { return *letters_[2 * rank + 1]; }

   private:
    std::vector<std::unique_ptr<Letter>> letters_;
  };

  Meeting meeting_;
  std::vector<std::byte> payload_;
  std::vector<std::byte> mine_;
  Letters letters_;
};

}  // namespace rondo::mpi
