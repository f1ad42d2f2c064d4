/// \file
/// The portable kernel's one loop nest: rows of 64 lanes, a lane per token, and their products with rows of scalars.
/// On a host a row of lanes is vector code; on a device each lane belongs to one thread of a warp. Lanes never mix,
/// so nothing has to be synchronised and every sum has one order.
#pragma once

#include <Kokkos_Core.hpp>

#include <cstdint>

namespace rondo::portable {

/// Tokens that one team keeps, side by side.
inline constexpr int lanes = 64;
/// Tokens that a team takes from the other side at a time.
inline constexpr int tile_rows = 32;

/// Calls f(lane) for every lane.
template <class Member, class F>
KOKKOS_FUNCTION void for_lanes(const Member& team, const F& f) {
  Kokkos::parallel_for(Kokkos::ThreadVectorRange(team, lanes), f);
}

/// One row of lanes: += Σ over depth of scalar(k) · b[k][lane], in the order of k.
template <class Member, class A, class Scalar>
KOKKOS_FUNCTION void add_row_product(const Member& team, A* KOKKOS_RESTRICT c, const A* KOKKOS_RESTRICT b, int depth,
                                     const Scalar& scalar) {
  int k = 0;
  for (; k + 4 <= depth; k += 4) {  // four at a time: a load and a store of c for four products
    const A a0 = scalar(k), a1 = scalar(k + 1), a2 = scalar(k + 2), a3 = scalar(k + 3);
    const A* KOKKOS_RESTRICT row = b + k * lanes;
    for_lanes(team, [=](int lane) {
      A sum = c[lane];
      sum += a0 * row[lane];
      sum += a1 * row[lane + lanes];
      sum += a2 * row[lane + 2 * lanes];
      sum += a3 * row[lane + 3 * lanes];
      c[lane] = sum;
    });
  }
  for (; k < depth; ++k) {
    const A a = scalar(k);
    const A* KOKKOS_RESTRICT row = b + k * lanes;
    for_lanes(team, [=](int lane) { c[lane] += a * row[lane]; });
  }
}

/// c[row][lane] += Σ over k of a(row, k) · b[k][lane], for `rows` rows and the given depth.
template <class Member, class A, class Source>
KOKKOS_FUNCTION void add_product(const Member& team, A* c, const A* b, int rows, int depth, const Source& a) {
  for (int row = 0; row < rows; ++row) {
    add_row_product(team, c + row * lanes, b, depth, [&](int k) { return a(row, k); });
  }
}

/// Elements of a depth that inner products are summed over at a time: one sum over all would round each term to the
/// digits of the whole.
inline constexpr int depth_part = 8;

/// The same over a depth in parts of depth_part, each summed up on its own.
template <class Member, class A, class Source>
KOKKOS_FUNCTION void add_inner_product(const Member& team, A* c, const A* b, int rows, int depth, const Source& a) {
  for (int row = 0; row < rows; ++row) {
    A* KOKKOS_RESTRICT out = c + row * lanes;
    for (int k = 0; k < depth; k += depth_part) {
      A scalars[depth_part];
      for (int i = 0; i < depth_part; ++i) scalars[i] = k + i < depth ? a(row, k + i) : A{0};
      const A* KOKKOS_RESTRICT factors = b + k * lanes;
      if (k + depth_part <= depth) {
        for_lanes(team, [=](int lane) {
          A sum{0};
          for (int i = 0; i < depth_part; ++i) sum += scalars[i] * factors[lane + i * lanes];
          out[lane] += sum;
        });
      } else {
        for_lanes(team, [=](int lane) {
          A sum{0};
          for (int i = 0; i < depth_part; ++i) {  // a known number, so that no scalar has to lie in memory
            if (k + i < depth) sum += scalars[i] * factors[lane + i * lanes];
          }
          out[lane] += sum;
        });
      }
    }
  }
}

/// The same where some (k, lane) are masked: they stand in b as products that must not be made, because a(row, k) may
/// be NaN. `visible[k][lane]` is 1 where the product counts.
template <class Member, class A, class Source>
KOKKOS_FUNCTION void add_masked_product(const Member& team, A* c, const A* b, const A* visible, int rows, int depth,
                                        const Source& a) {
  for (int row = 0; row < rows; ++row) {
    A* KOKKOS_RESTRICT sums = c + row * lanes;
    for (int k = 0; k < depth; ++k) {
      const A scalar = a(row, k);
      const A* KOKKOS_RESTRICT factor = b + k * lanes;
      const A* KOKKOS_RESTRICT seen = visible + k * lanes;
      for_lanes(team, [=](int lane) {
        const A sum = sums[lane] + scalar * factor[lane];
        sums[lane] = seen[lane] != A{0} ? sum : sums[lane];
      });
    }
  }
}

/// Sets `rows` rows of lanes to a value.
template <class Member, class A>
KOKKOS_FUNCTION void fill(const Member& team, A* c, int rows, A value) {
  for (int row = 0; row < rows; ++row) {
    A* out = c + row * lanes;
    for_lanes(team, [=](int lane) { out[lane] = value; });
  }
}

/// c[row][lane] = source(lane, row) for lanes below `count`, 0 beyond: a block of tokens turned on its side.
template <class Member, class A, class Source>
KOKKOS_FUNCTION void load_lanes(const Member& team, A* c, int rows, int count, const Source& source) {
  for (int row = 0; row < rows; ++row) {
    A* out = c + row * lanes;
    for_lanes(team, [=](int lane) { out[lane] = lane < count ? source(lane, row) : A{0}; });
  }
}

/// A team's scratch memory, cut into rows of lanes.
template <class A>
class LaneScratch {
 public:
  template <class Member>
  KOKKOS_FUNCTION LaneScratch(const Member& team, int level, int rows)
      : next_(static_cast<A*>(team.team_scratch(level).get_shmem(bytes(rows)))) {}

  /// The next `rows` rows.
  KOKKOS_FUNCTION A* rows(int count) {
    A* result = next_;
    next_ += count * lanes;
    return result;
  }

  KOKKOS_FUNCTION static constexpr std::size_t bytes(int rows) {
    return static_cast<std::size_t>(rows) * lanes * sizeof(A);
  }

 private:
  A* next_;
};

}  // namespace rondo::portable
