/// \file
/// Dropout of attention probabilities, by position: the same ones whatever the sharding, the number of ranks or the kernel.
#pragma once

#include <rondo/error.hpp>
#include <rondo/fingerprint.hpp>
#include <rondo/score/philox.hpp>

#include <Kokkos_Core.hpp>

#include <bit>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <type_traits>

namespace rondo {

/// The default: every probability counts.
struct no_dropout {
  static constexpr int code = 0;
};

/// After the softmax, each probability is dropped with the given probability and the others are divided by
/// 1 - probability (Srivastava et al., JMLR 15, 2014). lse is that of the softmax. Whether one is dropped follows from
/// (seed, batch, head, query position, key position) alone, one Philox2x32 number each, under a key that Philox4x32 makes of
/// (seed, batch, head); nothing is stored, and backward draws it again.
struct dropout {
  double probability = 0;
  std::uint64_t seed = 0;
  static constexpr int code = 1;

  /// \throws argument_error unless 0 ≤ probability < 1
  void check() const {
    if (probability >= 0 && probability < 1) return;
    throw argument_error(
        detail::message("dropout: the probability is ", probability, ", it must be from 0 to below 1"));
  }
  std::int64_t fingerprint() const { return detail::mixed(std::bit_cast<std::uint64_t>(probability), seed); }

  /// One head's draws.
  struct OfHead {
    std::uint32_t key;
    std::uint32_t flip[2];    ///< tells heads apart beyond the 32 bits of the key
    std::uint32_t threshold;  ///< drawn numbers below it are dropped

    KOKKOS_FUNCTION bool keeps(std::int64_t query, std::int64_t key_position) const {
      const std::uint32_t high = static_cast<std::uint32_t>(query >> 32) * 0x85EBCA6Bu ^
                                 static_cast<std::uint32_t>(key_position >> 32) * 0xC2B2AE35u;
      const detail::Counter<2> counter{
          {static_cast<std::uint32_t>(key_position) ^ flip[0], static_cast<std::uint32_t>(query) ^ flip[1]}};
      return detail::philox(counter, key ^ high).word[0] >= threshold;
    }
  };
  KOKKOS_FUNCTION OfHead of_head(int batch, int head) const {
    const detail::Counter<4> counter{{static_cast<std::uint32_t>(batch), static_cast<std::uint32_t>(head), 0, 0}};
    const detail::Counter<4> drawn = detail::philox(counter, seed);
    return {drawn.word[0], {drawn.word[1], drawn.word[2]}, static_cast<std::uint32_t>(probability * 4294967296.0)};
  }
  KOKKOS_FUNCTION bool keeps(int batch, int head, std::int64_t query, std::int64_t key) const {
    return of_head(batch, head).keeps(query, key);
  }
};

/// no_dropout or dropout.
template <class D>
concept Dropout = std::is_same_v<D, no_dropout> || std::is_same_v<D, dropout>;

}  // namespace rondo
