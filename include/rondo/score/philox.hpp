/// \file
/// The counter-based random generator Philox (Salmon et al., Parallel Random Numbers: As Easy as 1, 2, 3, SC 2011): a
/// number is a function of a counter and a key, so that nobody has to agree on who draws it when.
#pragma once

#include <Kokkos_Core.hpp>

#include <cstdint>

namespace rondo::detail {

template <int Words>
struct Counter {
  std::uint32_t word[Words];
};

/// Philox2x32 of 10 rounds.
KOKKOS_INLINE_FUNCTION Counter<2> philox(Counter<2> counter, std::uint32_t key) {
  std::uint32_t x = counter.word[0], y = counter.word[1];
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t product = std::uint64_t{0xD256D193u} * x;
    x = static_cast<std::uint32_t>(product >> 32) ^ key ^ y;
    y = static_cast<std::uint32_t>(product);
    key += 0x9E3779B9u;
  }
  return {{x, y}};
}

/// Philox4x32 of 10 rounds.
KOKKOS_INLINE_FUNCTION Counter<4> philox(Counter<4> counter, std::uint64_t key) {
  auto low = static_cast<std::uint32_t>(key), high = static_cast<std::uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t a = std::uint64_t{0xD2511F53u} * counter.word[0];
    const std::uint64_t b = std::uint64_t{0xCD9E8D57u} * counter.word[2];
    counter = {{static_cast<std::uint32_t>(b >> 32) ^ counter.word[1] ^ low, static_cast<std::uint32_t>(b),
                static_cast<std::uint32_t>(a >> 32) ^ counter.word[3] ^ high, static_cast<std::uint32_t>(a)}};
    low += 0x9E3779B9u;
    high += 0xBB67AE85u;
  }
  return counter;
}

}  // namespace rondo::detail
