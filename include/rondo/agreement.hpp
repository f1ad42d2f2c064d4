/// \file
/// The check before anything is sent: do all ranks mean the same operation? Ranks that differ would deadlock or, worse,
/// take one number for another.
#pragma once

#include <rondo/comm/concept.hpp>
#include <rondo/error.hpp>
#include <rondo/fingerprint.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <limits>
#include <span>
#include <string>

namespace rondo::detail {

/// One thing that must be equal on all ranks.
struct Field {
  const char* name;
  std::int64_t value;
};

/// Throws on every rank when a field differs, naming two ranks and their values, or when a rank refused its arguments.
/// \param refusal  what this rank found wrong with its own arguments, or null; thrown again here, after the other
///                 ranks know
template <std::size_t Count, Communicator Comm>
void check_agreement(Comm& comm, const std::array<Field, Count>& fields, std::exception_ptr refusal) {
  constexpr std::int64_t nobody = std::numeric_limits<std::int64_t>::max();
  // The smallest value of each field, the negated largest, and the first rank that refuses: one reduction.
  std::array<std::int64_t, 2 * Count + 1> extremes;
  for (std::size_t i = 0; i < Count; ++i) {
    extremes[2 * i] = fields[i].value;
    extremes[2 * i + 1] = -fields[i].value;
  }
  extremes[2 * Count] = refusal ? comm.rank() : nobody;
  comm.all_reduce(std::span<std::int64_t>(extremes), Reduction::minimum);
  if (refusal) std::rethrow_exception(refusal);
  if (extremes[2 * Count] != nobody) {
    const int rank = static_cast<int>(extremes[2 * Count]);
    throw peer_failed(rank, message("rank ", rank, " refused its arguments; nothing was sent"));
  }
  for (std::size_t i = 0; i < Count; ++i) {
    const std::int64_t smallest = extremes[2 * i];
    const std::int64_t largest = -extremes[2 * i + 1];
    if (smallest == largest) continue;
    std::array<std::int64_t, 2> holders{fields[i].value == smallest ? comm.rank() : nobody,
                                        fields[i].value == largest ? comm.rank() : nobody};
    comm.all_reduce(std::span<std::int64_t>(holders), Reduction::minimum);
    throw agreement_error(message("ranks disagree on ", fields[i].name, ": it is ", smallest, " on rank ", holders[0],
                                  " and ", largest, " on rank ", holders[1], "; nothing was sent"));
  }
}

/// What check() throws, or null.
template <class Check>
std::exception_ptr refusal_of(const Check& check) {
  try {
    check();
    return nullptr;
  } catch (...) {
    return std::current_exception();
  }
}

/// check_agreement on what fields() gives, or, where ranks need not be compared, the rank's own refusal alone.
template <Communicator Comm, class Fields>
void agree(Comm& comm, bool compare, const Fields& fields, std::exception_ptr refusal) {
  if (compare) {
    check_agreement(comm, fields(), refusal);
  } else if (refusal) {
    std::rethrow_exception(refusal);
  }
}

}  // namespace rondo::detail
