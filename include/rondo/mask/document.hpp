/// \file
/// The document mask: several sequences packed into one, each seeing itself only.
#pragma once

#include <rondo/error.hpp>
#include <rondo/fingerprint.hpp>
#include <rondo/mask/causal.hpp>
#include <rondo/mask/table.hpp>

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

namespace rondo {

/// Query i sees the keys of its own document. Documents are given by their offsets (cumulative lengths), not by an id per
/// token: the table's size is the number of documents, not of tokens. Its coverage is exact on runs of stride 1.
/// Made by Documents, which owns the table.
struct document {
  static constexpr int code = 6;
  static constexpr bool same_for_all_heads = true;

  TableView table;            ///< rows + 1 places in it, where each row's offsets begin, and then the offsets
  int rows = 0;               ///< 1: the same documents in every batch entry
  std::int64_t identity = 0;  ///< a number over all offsets, which ranks compare

  /// \throws argument_error when the table is of another batch or other lengths
  void check(int batch, std::int64_t queries, std::int64_t keys) const {
    if (rows < 1) throw argument_error("document: there are no offsets, Documents makes this mask");
    if (rows != 1 && rows != batch) {
      throw argument_error(
          detail::message("document: offsets are given for ", rows, " batch entries, there are ", batch));
    }
    for (int row = 0; row < rows; ++row) {
      const std::int64_t tokens = table[table[row + 1] - 1];
      if (tokens == queries && tokens == keys) continue;
      throw argument_error(detail::message("document: the offsets of batch entry ", row, " end at ", tokens,
                                           ", there are ", queries, " queries and ", keys, " keys"));
    }
  }
  std::int64_t fingerprint() const { return identity; }

  KOKKOS_FUNCTION Interval keys(int batch, int /*head*/, std::int64_t query) const {
    const std::int64_t at = find(batch, query);
    return {table[at], table[at + 1]};
  }
  KOKKOS_FUNCTION Coverage coverage(int batch, int /*head*/, const Run& queries, const Run& keys) const {
    if (queries.count == 0 || keys.count == 0) return Coverage::none;
    const Interval first = this->keys(batch, 0, queries.first);
    if (keys.last() < first.lo) return Coverage::none;
    if (queries.last() < first.hi) {  // all queries in one document
      if (keys.first >= first.hi) return Coverage::none;
      return keys.first >= first.lo && keys.last() < first.hi ? Coverage::all : Coverage::some;
    }
    return keys.first >= this->keys(batch, 0, queries.last()).hi ? Coverage::none : Coverage::some;
  }
  std::int64_t work(int batch, int /*head*/, const Run& queries, const Run& keys) const {
    if (queries.count == 0 || keys.count == 0) return 0;
    const std::int64_t last = std::min(queries.last(), keys.last());
    std::int64_t pairs = 0;
    for (std::int64_t at = find(batch, std::max(queries.first, keys.first));
         at < end_of(batch) - 1 && table[at] <= last; ++at) {
      const std::int64_t begin = table[at], end = table[at + 1];
      pairs += (detail::count_below(queries, end) - detail::count_below(queries, begin)) *
               (detail::count_below(keys, end) - detail::count_below(keys, begin));
    }
    return pairs;
  }

 private:
  KOKKOS_FUNCTION int row_of(int batch) const { return rows == 1 ? 0 : batch; }
  KOKKOS_FUNCTION std::int64_t end_of(int batch) const { return table[row_of(batch) + 1]; }

  /// Where in the table the offset of the document of a token stands.
  KOKKOS_FUNCTION std::int64_t find(int batch, std::int64_t token) const {
    std::int64_t low = table[row_of(batch)];
    std::int64_t high = end_of(batch) - 1;  // the end of the last document
    while (high - low > 1) {
      const std::int64_t middle = low + (high - low) / 2;
      (table[middle] <= token ? low : high) = middle;
    }
    return low;
  }
};

static_assert(Mask<document> && IntervalMask<document>);

/// The offsets of documents, and the mask that looks into them: keep it while the mask is in use.
///
///     const rondo::Documents documents{{0, 700, 1000, 4096}};   // three of them
///     attention.forward(q, k, v, out, lse, rondo::Problem{documents.mask() & rondo::causal{}});
template <class MemorySpace = Kokkos::DefaultExecutionSpace::memory_space>
class Documents {
 public:
  /// The same documents in every batch entry. \param offsets  0, the end of the first, ..., the number of tokens
  explicit Documents(const std::vector<std::int64_t>& offsets) : Documents(Rows{{offsets}}) {}
  /// Each batch entry its own. \throws argument_error unless every list begins with 0 and never falls
  static Documents per_batch(const std::vector<std::vector<std::int64_t>>& offsets) { return Documents(Rows{offsets}); }

  document mask() const { return {table_.view(), rows_, identity_}; }

 private:
  struct Rows {
    std::vector<std::vector<std::int64_t>> lists;
  };

  explicit Documents(const Rows& rows) : table_(numbers(rows.lists)), rows_(static_cast<int>(rows.lists.size())) {
    for (const auto& row : rows.lists) {
      for (const std::int64_t offset : row) identity_ = detail::mixed(identity_, offset);
      identity_ = detail::mixed(identity_, -1);
    }
  }

  static std::vector<std::int64_t> numbers(const std::vector<std::vector<std::int64_t>>& rows) {
    if (rows.empty()) throw argument_error("documents: 0 lists of offsets, there must be at least 1");
    std::vector<std::int64_t> numbers{static_cast<std::int64_t>(rows.size()) + 1};
    for (const auto& row : rows) numbers.push_back(numbers.back() + static_cast<std::int64_t>(row.size()));
    for (std::size_t index = 0; index < rows.size(); ++index) {
      const auto& row = rows[index];
      if (row.size() < 2 || row.front() != 0) {
        throw argument_error(detail::message("documents: list ", index, " has ", row.size(), " offsets",
                                             row.empty() ? "" : detail::message(" from ", row.front()),
                                             ", it must have at least 2, the first of them 0"));
      }
      for (std::size_t at = 1; at < row.size(); ++at) {
        if (row[at] >= row[at - 1]) continue;
        throw argument_error(detail::message("documents: in list ", index, " offset ", at, " is ", row[at],
                                             ", the one before ", row[at - 1], ": offsets must not fall"));
      }
      numbers.insert(numbers.end(), row.begin(), row.end());
    }
    return numbers;
  }

  detail::Table<MemorySpace> table_;
  int rows_;
  std::int64_t identity_ = 0;
};

/// Offsets of the documents of a sequence from an id per token. \throws argument_error when an id is less than the one before
template <class Id>
std::vector<std::int64_t> document_offsets(std::span<const Id> ids) {
  std::vector<std::int64_t> offsets{0};
  for (std::size_t at = 1; at < ids.size(); ++at) {
    if (ids[at] < ids[at - 1]) {
      throw argument_error(detail::message("document ids: token ", at, " has ", ids[at], ", the one before ",
                                           ids[at - 1], ": ids must not fall along the sequence"));
    }
    if (ids[at] != ids[at - 1]) offsets.push_back(static_cast<std::int64_t>(at));
  }
  offsets.push_back(static_cast<std::int64_t>(ids.size()));
  return offsets;
}

}  // namespace rondo
