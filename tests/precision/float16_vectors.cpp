#include <rondo/kernel/host/vec.hpp>

#include <catch2/catch_test_macros.hpp>

#include <array>
#include <bit>
#include <cstdint>
#include <cstring>
#include <vector>

namespace {

using rondo::float16;

/// All patterns in order, from an odd address on: loads are of any alignment.
struct AllPatterns {
  static constexpr std::size_t count = 0x10000;
  std::vector<std::uint16_t> patterns = std::vector<std::uint16_t>(count + 1);

  AllPatterns() {
    for (std::size_t bits = 0; bits < count; ++bits) patterns[bits + 1] = static_cast<std::uint16_t>(bits);
  }
  const float16* from(std::size_t bits) const { return reinterpret_cast<const float16*>(patterns.data() + 1 + bits); }
};

/// Calls load(pointer) for all patterns, a vector at a time, and compares bits with the conversion of each element.
template <class Floats, class Load>
void check_all(const char* name, const Load& load) {
  constexpr std::size_t lanes = sizeof(Floats) / sizeof(float);
  const AllPatterns all;
  for (std::size_t first = 0; first < AllPatterns::count; first += lanes) {
    const Floats loaded = load(all.from(first));
    std::array<std::uint32_t, lanes> bits;
    std::memcpy(bits.data(), &loaded, sizeof(bits));
    for (std::size_t lane = 0; lane < lanes; ++lane) {
      const auto pattern = static_cast<std::uint16_t>(first + lane);
      const auto alone = std::bit_cast<std::uint32_t>(static_cast<float>(std::bit_cast<float16>(pattern)));
      if (bits[lane] != alone) {
        FAIL(name << ", " << sizeof(Floats) << " bytes: pattern " << pattern << " is " << bits[lane] << ", not "
                  << alone);
      }
    }
  }
  SUCCEED();
}

template <int Bytes>
struct floats_of {
  typedef float type __attribute__((vector_size(Bytes)));
};

/// Vectors of all sizes up to the kernel's, by instruction where there is one, and by bits.
template <int Bytes = rondo::host::vector_bytes>
void check_widths() {
  using Floats = typename floats_of<Bytes>::type;
  check_all<Floats>("the processor's instruction",
                    [](const float16* source) { return rondo::host::float16_as_floats<Floats>(source); });
  check_all<Floats>("bit arithmetic",
                    [](const float16* source) { return rondo::host::float16_as_floats_by_bits<Floats>(source); });
  if constexpr (Bytes > 8) check_widths<Bytes / 2>();
}

TEST_CASE("Vectors of float16 of every width hold the same bits as one element at a time") { check_widths(); }

TEST_CASE("The host kernel's loads of float16 hold the same bits as one element at a time") {
  check_all<rondo::host::Vec<float>>("load", [](const float16* source) { return rondo::host::load<float>(source); });
}

}  // namespace
