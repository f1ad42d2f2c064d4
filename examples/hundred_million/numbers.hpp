/// \file
/// Numbers for any place in a sequence, made of the place alone: they need not be kept, and any rank can make any of them.
#pragma once

#include <cstdint>
#include <initializer_list>

namespace hundred_million {

/// Which tensor a number belongs to.
enum class Stream : std::uint32_t { q = 1, k = 2, v = 3, grad = 4, length = 5 };

/// 32 well mixed bits of a place (the last steps of MurmurHash3, public domain, twice).
inline std::uint32_t bits(Stream stream, std::uint64_t token, std::uint32_t element) {
  std::uint32_t x = static_cast<std::uint32_t>(token) ^ static_cast<std::uint32_t>(token >> 32) * 0x9e3779b9u ^
                    static_cast<std::uint32_t>(stream) * 0x7feb352du;
  for (const std::uint32_t next : {element * 0x85ebca6bu, element + 0x27d4eb2fu}) {
    x ^= next;
    x ^= x >> 16;
    x *= 0x85ebca6bu;
    x ^= x >> 13;
    x *= 0xc2b2ae35u;
    x ^= x >> 16;
  }
  return x;
}

/// Evenly distributed in [-1, 1).
inline float number(Stream stream, std::uint64_t token, int element) {
  return static_cast<float>(static_cast<std::int32_t>(bits(stream, token, static_cast<std::uint32_t>(element)))) *
         0x1p-31f;
}

}  // namespace hundred_million
