#include <rondo/precision.hpp>

#include <catch2/catch_test_macros.hpp>

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <string>
#include <type_traits>

namespace {

using rondo::bfloat16;

/// The value of a bit pattern by its definition: sign, 8 bits of exponent, 7 of fraction. NaN and infinity apart.
double value_of(std::uint32_t bits) {
  const int exponent = static_cast<int>((bits >> 7) & 0xff);
  const double fraction = static_cast<double>(bits & 0x7f) / 128;
  const double size = exponent == 0 ? std::ldexp(fraction, -126) : std::ldexp(1 + fraction, exponent - 127);
  return (bits & 0x8000) != 0 ? -size : size;
}

bool is_nan(std::uint32_t bits) { return (bits & 0x7f80) == 0x7f80 && (bits & 0x7f) != 0; }
bool is_infinite(std::uint32_t bits) { return (bits & 0x7fff) == 0x7f80; }

/// The nearest pattern to a finite value, ties to the even one, by comparing distances in double, which are exact.
/// From half a unit past the largest finite value on, infinity.
std::uint32_t nearest(float value) {
  const std::uint32_t sign = std::signbit(value) ? 0x8000u : 0u;
  const double size = std::fabs(static_cast<double>(value));
  std::uint32_t low = 0;  // the largest pattern not above `size`: values grow with their patterns
  for (std::uint32_t bit = 0x4000; bit != 0; bit >>= 1) {
    if ((low | bit) < 0x7f80 && value_of(low | bit) <= size) low |= bit;
  }
  const double above = low == 0x7f7f ? std::ldexp(1.0, 128) : value_of(low + 1);
  const double to_low = size - value_of(low);
  const double to_high = above - size;
  const bool up = to_high < to_low || (to_high == to_low && low % 2 == 1);
  return sign | (up ? low + 1 : low);
}

static_assert(sizeof(bfloat16) == 2 && std::is_trivially_copyable_v<bfloat16>);
static_assert(!std::is_convertible_v<float, bfloat16> && !std::is_convertible_v<bfloat16, float>,
              "rounding is always asked for");

TEST_CASE("Every bit pattern of bfloat16 has the value of its definition, and comes back from float") {
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const auto narrow = std::bit_cast<bfloat16>(static_cast<std::uint16_t>(bits));
    const auto wide = static_cast<float>(narrow);
    const std::uint16_t back = bfloat16(wide).bits();
    bool right = narrow.bits() == bits;
    if (is_nan(bits)) {
      right = right && std::isnan(wide) && is_nan(back) && (back & 0x8000u) == (bits & 0x8000u);
    } else {
      right = right && back == bits;
      if (is_infinite(bits)) {
        right = right && std::isinf(wide) && std::signbit(wide) == (bits >= 0x8000);
      } else {
        right = right && static_cast<double>(wide) == value_of(bits) && std::signbit(wide) == (bits >= 0x8000);
      }
    }
    if (!right) FAIL("pattern " << bits << " is " << wide << " and comes back as " << back);
  }
  SUCCEED();
}

TEST_CASE("Rounding to bfloat16 goes to the nearest, ties to even, around every one of its values") {
  // The value itself, its neighbours in float, and the three floats around the midpoint to the next value.
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    if (is_nan(bits) || is_infinite(bits)) continue;
    for (const std::uint32_t low : {0x0000u, 0x0001u, 0x7fffu, 0x8000u, 0x8001u, 0xffffu}) {
      const auto value = std::bit_cast<float>(bits << 16 | low);
      const std::uint32_t rounded = bfloat16(value).bits();
      if (rounded != nearest(value)) FAIL(value << " gives " << rounded << ", nearest is " << nearest(value));
    }
  }
  SUCCEED();
}

TEST_CASE("Rounding random floats to bfloat16 goes to the nearest") {
  std::mt19937 random(11);
  for (int sample = 0; sample < 300000; ++sample) {
    const auto value = std::bit_cast<float>(static_cast<std::uint32_t>(random()));
    if (!std::isfinite(value)) continue;
    const std::uint32_t rounded = bfloat16(value).bits();
    if (rounded != nearest(value)) FAIL(value << " gives " << rounded << ", nearest is " << nearest(value));
  }
  SUCCEED();
}

TEST_CASE("What is too large for bfloat16 becomes infinite") {
  constexpr float largest = 0x1.fep127f;
  constexpr float halfway = 0x1.ffp127f;
  CHECK(static_cast<float>(bfloat16(std::nextafter(halfway, 0.0f))) == largest);
  CHECK(std::isinf(static_cast<float>(bfloat16(halfway))));
  CHECK(std::isinf(static_cast<float>(bfloat16(std::numeric_limits<float>::max()))));
  CHECK(static_cast<float>(bfloat16(-std::numeric_limits<float>::max())) == -std::numeric_limits<float>::infinity());
  CHECK(static_cast<float>(bfloat16(std::numeric_limits<float>::infinity())) == std::numeric_limits<float>::infinity());
}

TEST_CASE("Every kind of NaN stays a NaN in bfloat16") {
  // Payloads in the low half alone would be cut to infinity, all ones would be rounded to zero.
  for (const std::uint32_t bits : {0x7f800001u, 0x7f80ffffu, 0x7fffffffu, 0x7fc00000u, 0xff800001u, 0xffffffffu}) {
    const bfloat16 narrow(std::bit_cast<float>(bits));
    CHECK(std::isnan(static_cast<float>(narrow)));
    CHECK((narrow.bits() >> 15) == (bits >> 31));
  }
}

}  // namespace
