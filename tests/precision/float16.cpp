#include <rondo/precision.hpp>

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <limits>
#include <random>
#include <type_traits>
#include <vector>

namespace {

using rondo::float16;

constexpr std::uint32_t infinity = 0x7c00;

/// The value of a bit pattern by its definition: sign, 5 bits of exponent, 10 of fraction. NaN and infinity apart.
double value_of(std::uint32_t bits) {
  const int exponent = static_cast<int>((bits >> 10) & 0x1f);
  const double fraction = static_cast<double>(bits & 0x3ff) / 1024;
  const double size = exponent == 0 ? std::ldexp(fraction, -14) : std::ldexp(1 + fraction, exponent - 15);
  return (bits & 0x8000) != 0 ? -size : size;
}

bool is_nan(std::uint32_t bits) { return (bits & 0x7fff) > infinity; }
bool is_infinite(std::uint32_t bits) { return (bits & 0x7fff) == infinity; }

/// The values of all patterns from 0 to the largest finite one, upwards, and 2^16 in the place of infinity.
const std::vector<double>& sizes() {
  static const std::vector<double> table = [] {
    std::vector<double> values;
    for (std::uint32_t bits = 0; bits < infinity; ++bits) values.push_back(value_of(bits));
    values.push_back(65536);
    return values;
  }();
  return table;
}

/// The pattern nearest to a value, ties to the even one, by a search in the table of all of them: distances in double are
/// exact. From half a unit past the largest finite value on, infinity.
std::uint32_t nearest(float value) {
  const std::uint32_t sign = std::signbit(value) ? 0x8000u : 0u;
  const double size = std::fabs(static_cast<double>(value));
  const auto above = std::lower_bound(sizes().begin(), sizes().end(), size);
  if (above == sizes().end()) return sign | infinity;
  const auto high = static_cast<std::uint32_t>(std::distance(sizes().begin(), above));
  if (*above == size) return sign | high;
  const double to_low = size - sizes()[high - 1];
  const double to_high = *above - size;
  const bool up = to_high < to_low || (to_high == to_low && high % 2 == 0);
  return sign | (up ? high : high - 1);
}

/// Whether float16(value) and float16(-value) are the nearest.
bool check_rounding(float value) {
  for (const float x : {value, -value}) {
    const std::uint32_t rounded = float16(x).bits();
    if (rounded != nearest(x)) FAIL(x << " gives " << rounded << ", nearest is " << nearest(x));
  }
  return true;
}

static_assert(sizeof(float16) == 2 && std::is_trivially_copyable_v<float16>);
static_assert(!std::is_convertible_v<float, float16> && !std::is_convertible_v<float16, float>,
              "rounding is always asked for");
static_assert(!std::is_constructible_v<float16, rondo::bfloat16>, "the two-byte types are not taken for each other");

TEST_CASE("Every bit pattern of float16 has the value of its definition, and comes back from float") {
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const auto narrow = std::bit_cast<float16>(static_cast<std::uint16_t>(bits));
    const auto wide = static_cast<float>(narrow);
    const std::uint32_t back = float16(wide).bits();
    bool right = narrow.bits() == bits && std::signbit(wide) == (bits >= 0x8000);
    if (is_nan(bits)) {
      right = right && std::isnan(wide) && back == (bits | 0x0200u);  // the payload stays, the quiet bit is set
    } else {
      right = right && back == bits;
      right = right && (is_infinite(bits) ? std::isinf(wide) : static_cast<double>(wide) == value_of(bits));
    }
    if (!right) FAIL("pattern " << bits << " is " << wide << " and comes back as " << back);
  }
  SUCCEED();
}

TEST_CASE("Rounding to float16 goes to the nearest, ties to even, around every one of its values") {
  // The value itself, the midpoint to the next, and the floats on either side of both.
  for (std::size_t at = 0; at + 1 < sizes().size(); ++at) {
    const auto value = static_cast<float>(sizes()[at]);
    const auto midpoint = static_cast<float>((sizes()[at] + sizes()[at + 1]) / 2);
    for (const float x : {value, midpoint}) {
      check_rounding(x);
      check_rounding(std::nextafter(x, std::numeric_limits<float>::infinity()));
      check_rounding(std::nextafter(x, 0.0f));
    }
  }
  SUCCEED();
}

TEST_CASE("Rounding random floats to float16 goes to the nearest") {
  std::mt19937 random(12);
  for (int sample = 0; sample < 300000; ++sample) {
    const auto value = std::bit_cast<float>(static_cast<std::uint32_t>(random()));
    if (std::isfinite(value)) check_rounding(value);
    // Most floats are out of half's range: these are in it, and in the powers of two just below.
    const auto exponent = 127 - 27 + random() % (27 + 16);
    check_rounding(std::bit_cast<float>(static_cast<std::uint32_t>(exponent << 23 | random() % (1u << 23))));
  }
  SUCCEED();
}

TEST_CASE("What is too small for float16 becomes zero of its sign, and half the smallest value a tie") {
  constexpr float smallest = 0x1p-24f;
  const auto bits_of = [](float value) { return float16(value).bits(); };
  CHECK(bits_of(smallest / 2) == 0x0000);
  CHECK(bits_of(-smallest / 2) == 0x8000);
  CHECK(bits_of(std::nextafter(smallest / 2, 1.0f)) == 0x0001);
  CHECK(bits_of(-std::nextafter(smallest / 2, 1.0f)) == 0x8001);
  CHECK(bits_of(smallest * 1.5f) == 0x0002);
  CHECK(bits_of(std::numeric_limits<float>::min()) == 0x0000);
  CHECK(bits_of(-std::numeric_limits<float>::denorm_min()) == 0x8000);
  CHECK(bits_of(std::nextafter(0x1p-14f, 0.0f)) == 0x0400);  // the largest below normal lies half a unit further down
}

TEST_CASE("What is too large for float16 becomes infinite") {
  constexpr float halfway = 65520;
  constexpr float infinite = std::numeric_limits<float>::infinity();
  const auto there_and_back = [](float value) { return static_cast<float>(float16(value)); };
  CHECK(there_and_back(65504) == 65504);
  CHECK(there_and_back(std::nextafter(halfway, 0.0f)) == 65504);
  CHECK(there_and_back(halfway) == infinite);
  CHECK(there_and_back(-halfway) == -infinite);
  CHECK(there_and_back(65536) == infinite);
  CHECK(there_and_back(std::numeric_limits<float>::max()) == infinite);
  CHECK(there_and_back(-std::numeric_limits<float>::max()) == -infinite);
  CHECK(there_and_back(infinite) == infinite);
}

TEST_CASE("Every kind of NaN becomes a quiet NaN of its sign in float16") {
  // Payloads in the low bits alone would be cut to infinity, all ones would be rounded to zero.
  for (const std::uint32_t bits :
       {0x7f800001u, 0x7f801fffu, 0x7f80ffffu, 0x7fffffffu, 0x7fc00000u, 0xff800001u, 0xffffffffu}) {
    const float16 narrow(std::bit_cast<float>(bits));
    CHECK(is_nan(narrow.bits()));
    CHECK((narrow.bits() & 0x0200) != 0);
    CHECK((narrow.bits() >> 15) == (bits >> 31));
    CHECK(std::isnan(static_cast<float>(narrow)));
  }
}

}  // namespace
