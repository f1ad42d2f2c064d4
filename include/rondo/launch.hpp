/// \file
/// How small kernels are launched: rows of tensors, a row at a time on a host, some lanes of a warp for each on a device.
#pragma once

#include <Kokkos_Core.hpp>

#include <cstdint>

namespace rondo::detail {

/// A policy whose functor reaches a device as the kernel's argument. Older Kokkos takes functors from 512 bytes on through
/// one buffer in constant memory, which all ranks of a process share, and lets the host wait until the kernel before has
/// read it.
template <class Policy>
auto with_arguments(const Policy& policy) {
  return Kokkos::Experimental::require(policy, Kokkos::Experimental::WorkItemProperty::HintLightWeight);
}

template <class Exec>
inline constexpr bool is_host = Kokkos::SpaceAccessibility<Kokkos::HostSpace, typename Exec::memory_space>::accessible;

/// Indices 0 ... count - 1 of a parallel_for.
template <class Exec>
auto range(const Exec& exec, std::int64_t count) {
  return with_arguments(Kokkos::RangePolicy<Exec, Kokkos::IndexType<std::int64_t>>(exec, 0, count));
}

/// Eight neighbouring elements of a row, or what is left of it: on a device what one lane does, read and written as one
/// where addresses allow it.
template <class T>
struct alignas(16) Eight {
  T x[8];

  KOKKOS_FUNCTION static bool at_once([[maybe_unused]] const T* at, [[maybe_unused]] std::int64_t stride,
                                      [[maybe_unused]] int count) {
#if defined(__CUDA_ARCH__) || defined(__HIP_DEVICE_COMPILE__)
    return stride == 1 && count == 8 && reinterpret_cast<std::uintptr_t>(at) % alignof(Eight) == 0;
#else
    return false;
#endif
  }
  KOKKOS_FUNCTION void read(const T* from, std::int64_t stride, int count) {
    if (at_once(from, stride, count)) {
      *this = *reinterpret_cast<const Eight*>(from);
    } else {
      for (int i = 0; i < count; ++i) x[i] = from[i * stride];
    }
  }
  KOKKOS_FUNCTION void write(T* to, std::int64_t stride, int count) const {
    if (at_once(to, stride, count)) {
      *reinterpret_cast<Eight*>(to) = *this;
    } else {
      for (int i = 0; i < count; ++i) to[i * stride] = x[i];
    }
  }
};

/// Whoever has a row to do: a thread of a host, or some lanes of a warp together.
template <class Exec, bool = is_host<Exec>>
class Row {
 public:
  /// Calls f(first, count) for each eight elements of a row of `width`, the last ones maybe fewer.
  template <class F>
  KOKKOS_FUNCTION void each_eight(int width, const F& f) const {
    for (int first = 0; first < width; first += 8) f(first, width - first < 8 ? width - first : 8);
  }
};
template <class Exec>
class Row<Exec, false> {
 public:
  using Member = typename Kokkos::TeamPolicy<Exec>::member_type;
  KOKKOS_FUNCTION explicit Row(const Member& team) : team_(team) {}

  template <class F>
  KOKKOS_FUNCTION void each_eight(int width, const F& f) const {
    Kokkos::parallel_for(Kokkos::ThreadVectorRange(team_, (width + 7) / 8),
                         [&](int i) { f(8 * i, width - 8 * i < 8 ? width - 8 * i : 8); });
  }
  /// The sum of f(first, count) over a row's eights.
  template <class A, class F>
  KOKKOS_FUNCTION A sum(int width, const F& f) const {
    A result{0};
    Kokkos::parallel_reduce(
        Kokkos::ThreadVectorRange(team_, (width + 7) / 8),
        [&](int i, A& partial) { partial += f(8 * i, width - 8 * i < 8 ? width - 8 * i : 8); }, result);
    return result;
  }

 private:
  const Member& team_;
};

/// Finds the three indices of a row, the last one fastest, and calls f.
template <class Exec, class F>
struct RowCall {
  F f;
  std::int64_t rows, second, third;

  KOKKOS_FUNCTION void operator()(std::int64_t row) const { call(Row<Exec>(), row); }
  template <class Member>
    requires requires(const Member& team) { team.league_rank(); }
  KOKKOS_FUNCTION void operator()(const Member& team) const {
    const std::int64_t row = std::int64_t{team.league_rank()} * team.team_size() + team.team_rank();
    if (row < rows) call(Row<Exec>(team), row);
  }
  template <class R>
  KOKKOS_FUNCTION void call(const R& row_of, std::int64_t row) const {
    constexpr std::int64_t most = 0xffffffff;
    if (rows <= most) {  // a device divides 32 bits several times as fast
      const auto at = static_cast<std::uint32_t>(row), block = at / static_cast<std::uint32_t>(third);
      const auto first = block / static_cast<std::uint32_t>(second);
      f(row_of, first, block - first * static_cast<std::uint32_t>(second),
        at - block * static_cast<std::uint32_t>(third));
    } else {
      f(row_of, row / third / second, row / third % second, row % third);
    }
  }
};

/// Calls f(row, i, j, k), where row is a Row<Exec>, for all i < first, j < second, k < third.
/// \param width  elements of a row
template <class Exec, class F>
void for_rows(const char* name, const Exec& exec, std::int64_t first, std::int64_t second, std::int64_t third,
              int width, const F& f) {
  const std::int64_t rows = first * second * third;
  if (rows == 0) return;
  const RowCall<Exec, F> call{f, rows, second, third};
  if constexpr (is_host<Exec>) {
    Kokkos::parallel_for(name, range(exec, rows), call);
  } else {
    int lanes = 1;
    while (lanes < 32 && 8 * lanes < width) lanes *= 2;
    const int together = 256 / lanes;
    const Kokkos::TeamPolicy<Exec> policy(exec, static_cast<int>((rows + together - 1) / together), together, lanes);
    Kokkos::parallel_for(name, with_arguments(policy), call);
  }
}

}  // namespace rondo::detail
