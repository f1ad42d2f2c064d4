/// \file
/// Handing out work to an instance's threads, each with memory of its own.
#pragma once

#include <rondo/kernel/concept.hpp>
#include <rondo/kernel/host/vec.hpp>
#include <rondo/problem.hpp>

#include <Kokkos_Core.hpp>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <thread>
#include <utility>
#include <vector>

namespace rondo::host {
inline namespace RONDO_HOST_NAMESPACE {

/// A thread's scratch memory, cut into aligned arrays.
class Scratch {
 public:
  explicit Scratch(std::byte* memory) : next_(memory) {}

  template <class A>
  A* array(std::int64_t count) {
    A* result = reinterpret_cast<A*>(next_);
    next_ += bytes<A>(count);
    return result;
  }
  template <class A>
  static std::size_t bytes(std::int64_t count) {
    return (static_cast<std::size_t>(count) * sizeof(A) + 63) / 64 * 64;
  }

 private:
  std::byte* next_;
};

/// A progress callback for the one thread that may call it.
class Progress {
 public:
  explicit Progress(ProgressCallback callback) : callback_(callback) {}

  /// True, without asking, on other threads.
  bool operator()() const { return std::this_thread::get_id() != caller_ || callback_(); }

 private:
  ProgressCallback callback_;
  std::thread::id caller_ = std::this_thread::get_id();
};

/// Calls work(item, scratch) for items 0 ... items - 1. Threads take the next item when they are done with one, so items
/// begin in order, and an item may wait for an earlier one. Once `progress` has said false, no item begins.
template <class Exec, class Work>
void for_items(const char* name, const Exec& exec, std::int64_t items, std::size_t scratch_bytes,
               const Progress& progress, const Work& work) {
  if (items == 0) return;
  using Policy = Kokkos::TeamPolicy<Exec>;
  const auto workers = static_cast<int>(std::min<std::int64_t>(items, exec.concurrency()));
  const std::size_t bytes = scratch_bytes + 64;
  std::atomic<std::int64_t> next{0};
  Policy policy(exec, workers, 1);
  policy.set_scratch_size(1, Kokkos::PerTeam(static_cast<int>(bytes)));
  Kokkos::parallel_for(name, policy, [&](const typename Policy::member_type& team) {
    auto* memory = static_cast<std::byte*>(team.team_scratch(1).get_shmem_aligned(scratch_bytes, 64));
    for (std::int64_t item = next.fetch_add(1); item < items; item = next.fetch_add(1)) {
      work(item, Scratch(memory));
      if (!progress()) next.store(items);
    }
  });
  exec.fence(name);
}

/// Items for blocks of keys and heads, in the order in which they are handed out: of as many heads at a time as there are
/// threads, all first blocks, all second ones ... A head's queries and their gradients are passed over for each of its
/// blocks: the fewer heads, the more of them is still in the cache.
class ItemOrder {
 public:
  struct Item {
    std::int64_t block, head;
  };

  ItemOrder(std::int64_t blocks, std::int64_t heads, std::int64_t threads)
      : blocks_(blocks), heads_(heads), at_a_time_(std::min(heads, threads)) {}

  std::int64_t count() const { return blocks_ * heads_; }
  Item at(std::int64_t item) const {
    const std::int64_t first = item / (blocks_ * at_a_time_) * at_a_time_;
    const std::int64_t here = std::min(at_a_time_, heads_ - first);
    const std::int64_t rest = item - first * blocks_;
    return {rest / here, first + rest % here};
  }

 private:
  std::int64_t blocks_, heads_, at_a_time_;
};

/// Keys that are whole panels and whole groups of rows, whatever the type and the width: what blocks of keys are made of,
/// unless the cache has no room for so many.
inline constexpr int key_step = 96;

/// A piece's keys, cut into blocks of `keys`; at most the last sixteenth into smaller ones, for threads to end together. The
/// cuts are the same for any number of threads: sums over blocks depend on them.
class KeyBlocks {
 public:
  /// Keys [begin, end).
  struct Range {
    std::int64_t begin, end;
  };

  KeyBlocks(std::int64_t tokens, int keys)
      : tokens_(tokens),
        keys_(keys),
        small_(keys % key_step == 0 ? key_step : keys),
        whole_((tokens - tokens / 16 + keys - 1) / keys),
        count_(whole_ + std::max<std::int64_t>(0, tokens - whole_ * keys + small_ - 1) / small_) {}

  std::int64_t count() const { return count_; }
  Range at(std::int64_t block) const { return {start_of(block), std::min(tokens_, start_of(block + 1))}; }

  /// The last block before this one with keys that are seen, or -1.
  /// \param seen  false where no key of a range is, of one block or of several together
  template <class Seen>
  std::int64_t last_before(std::int64_t block, const Seen& seen) const {
    if (block == 0 || !seen(Range{0, start_of(block)})) return -1;
    do {
      --block;
    } while (block >= 0 && !seen(at(block)));
    return block;
  }

 private:
  std::int64_t start_of(std::int64_t block) const {
    return block <= whole_ ? block * keys_ : whole_ * keys_ + (block - whole_) * small_;
  }

  std::int64_t tokens_;
  int keys_, small_;
  std::int64_t whole_;  ///< blocks of `keys`
  std::int64_t count_;
};

/// Turns of several threads at the same rows of a sum: a block of keys adds to them after the last one before it that does,
/// whoever computes it, so that sums have one order. Counters are kept by the calling thread for its next call.
class OrderedRows {
 public:
  /// \param rows  groups of rows; 0 when one thread does everything in order anyway
  explicit OrderedRows(std::int64_t rows) {
    static thread_local std::vector<std::atomic<std::int64_t>> counters;
    if (std::cmp_less(counters.size(), rows))
      counters = std::vector<std::atomic<std::int64_t>>(static_cast<std::size_t>(rows));
    for (std::int64_t row = 0; row < rows; ++row)
      counters[static_cast<std::size_t>(row)].store(0, std::memory_order_relaxed);
    counters_ = rows > 0 ? counters.data() : nullptr;
  }

  /// Returns when the block before() has been added; -1: there is none.
  template <class Before>
  void wait(std::int64_t row, const Before& before) const {
    if (counters_ == nullptr) return;
    const std::int64_t block = before();
    while (counters_[row].load(std::memory_order_acquire) <= block) std::this_thread::yield();
  }
  void done(std::int64_t row, std::int64_t block) const {
    if (counters_ != nullptr) counters_[row].store(block + 1, std::memory_order_release);
  }

 private:
  std::atomic<std::int64_t>* counters_;
};

/// Sums for the gradient of a score function's parameters: one set for each item of work, added up in the items' order
/// whoever computed them. Of other score functions: nothing.
template <ProblemType P>
class ItemSums {
 public:
  /// \param sums  [heads, parameters_per_head], or null where no gradient is wanted
  /// \param heads_per_item  query heads that an item is about
  ItemSums(const P& problem, double* sums, std::int64_t items, int heads_per_item) {
    if constexpr (LearnedScore<typename P::score_type>) {
      if (sums == nullptr) return;
      static thread_local std::vector<double> kept;
      per_head_ = problem.score.parameters_per_head();
      per_item_ = std::int64_t{per_head_} * heads_per_item;
      const auto needed = static_cast<std::size_t>(items * per_item_);
      if (kept.size() < needed) kept.resize(needed);
      std::fill_n(kept.begin(), needed, 0.0);
      items_ = kept.data();
      sums_ = sums;
    }
  }

  /// [heads_per_item, parameters_per_head], or null.
  double* of(std::int64_t item) const { return items_ == nullptr ? nullptr : items_ + item * per_item_; }

  /// Adds an item's sums to those of its heads, from `first_head` on.
  void add(std::int64_t item, int first_head) const {
    if (items_ == nullptr) return;
    double* const to = sums_ + std::int64_t{first_head} * per_head_;
    for (std::int64_t at = 0; at < per_item_; ++at) to[at] += of(item)[at];
  }

 private:
  double* items_ = nullptr;
  double* sums_ = nullptr;
  int per_head_ = 0;
  std::int64_t per_item_ = 0;
};

}  // namespace RONDO_HOST_NAMESPACE
}  // namespace rondo::host
