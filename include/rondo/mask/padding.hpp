/// \file
/// The padding mask: sequences of a batch that are shorter than the tensors.
#pragma once

#include <rondo/error.hpp>
#include <rondo/fingerprint.hpp>
#include <rondo/mask/causal.hpp>
#include <rondo/mask/table.hpp>

#include <cstdint>
#include <vector>

namespace rondo {

/// Nobody sees the keys from the length of the batch entry on; queries there are computed like any other. Its coverage is
/// exact for any two runs. Made by Lengths, which owns the table.
struct padding {
  static constexpr int code = 7;
  static constexpr bool same_for_all_heads = true;

  TableView table;  ///< a length for each batch entry
  int rows = 0;
  std::int64_t identity = 0;  ///< a number over all lengths, which ranks compare

  /// \throws argument_error when there is not one length for each batch entry, or one is longer than the keys
  void check(int batch, std::int64_t /*queries*/, std::int64_t keys) const {
    if (rows != batch) {
      throw argument_error(detail::message("padding: ", rows, " lengths are given, the batch has ", batch));
    }
    for (int row = 0; row < rows; ++row) {
      if (table[row] > keys) {
        throw argument_error(detail::message("padding: the length of batch entry ", row, " is ", table[row],
                                             ", there are ", keys, " keys"));
      }
    }
  }
  std::int64_t fingerprint() const { return identity; }

  KOKKOS_FUNCTION Interval keys(int batch, int /*head*/, std::int64_t /*query*/) const { return {0, table[batch]}; }
  KOKKOS_FUNCTION Coverage coverage(int batch, int /*head*/, const Run& queries, const Run& keys) const {
    if (queries.count == 0 || keys.count == 0 || keys.first >= table[batch]) return Coverage::none;
    return keys.last() < table[batch] ? Coverage::all : Coverage::some;
  }
  std::int64_t work(int batch, int /*head*/, const Run& queries, const Run& keys) const {
    return queries.count * detail::count_below(keys, table[batch]);
  }
};

static_assert(Mask<padding> && IntervalMask<padding>);

/// The lengths of a batch's sequences, and the mask that looks into them: keep it while the mask is in use.
template <class MemorySpace = Kokkos::DefaultExecutionSpace::memory_space>
class Lengths {
 public:
  /// \throws argument_error for a length below 0
  explicit Lengths(const std::vector<std::int64_t>& lengths)
      : table_(lengths), rows_(static_cast<int>(lengths.size())) {
    for (std::size_t row = 0; row < lengths.size(); ++row) {
      if (lengths[row] < 0) {
        throw argument_error(
            detail::message("lengths: that of batch entry ", row, " is ", lengths[row], ", it must be at least 0"));
      }
      identity_ = detail::mixed(identity_, lengths[row]);
    }
  }

  padding mask() const { return {table_.view(), rows_, identity_}; }

 private:
  detail::Table<MemorySpace> table_;
  int rows_;
  std::int64_t identity_ = 0;
};

}  // namespace rondo
