/// \file
/// Numbers by which ranks see whether their masks and score functions have the same parameters.
#pragma once

#include <concepts>
#include <cstdint>

namespace rondo::detail {

/// One number from 0 to 2^62 - 1 for several, which follows from all of them and their order (FNV-1a, a number at a time).
template <class... Numbers>
constexpr std::int64_t mixed(Numbers... numbers) {
  std::uint64_t mix = 14695981039346656037u;
  const auto add = [&mix](std::uint64_t number) {
    mix = (mix ^ number) * 1099511628211u;
    mix ^= mix >> 29;  // low bits follow from high ones too
  };
  (add(static_cast<std::uint64_t>(numbers)), ...);
  return static_cast<std::int64_t>(mix >> 2);
}

/// A number that says which parameters a policy has; 0 for those without `fingerprint()`.
template <class Policy>
std::int64_t fingerprint(const Policy& policy) {
  if constexpr (requires {
                  { policy.fingerprint() } -> std::convertible_to<std::int64_t>;
                }) {
    return policy.fingerprint();
  } else {
    return 0;
  }
}

/// Lets a policy that has a check refuse what it is used with. \param queries, keys  tokens of the whole sequences
template <class Policy>
void check_policy(const Policy& policy, int batch, std::int64_t queries, std::int64_t keys) {
  if constexpr (requires { policy.check(batch, queries, keys); }) policy.check(batch, queries, keys);
}

}  // namespace rondo::detail
