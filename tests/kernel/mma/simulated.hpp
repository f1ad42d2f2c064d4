/// \file
/// A host that plays the warps of a team, lane by lane: the kernel's own code with the instructions done as the ISA's tables
/// say. Copies arrive as late as they may, at the barrier after the wait for them, and leave NaN until then, so that one
/// nobody waited for shows. Whoever writes where a warp has read since the last barrier is told.
#pragma once

#include "tables.hpp"

#include <kernel/tensor_core/simulated.hpp>

#include <rondo/kernel/mma/device.hpp>

#include <Kokkos_Core.hpp>

#include <cstdint>
#include <cstring>
#include <deque>
#include <functional>
#include <stdexcept>
#include <vector>

namespace rondo::test {

/// The PTX ISA's tables, from ptx_fragments.txt.
inline const FragmentTable& fragment_table(const std::string& name) {
  static const auto tables = read_fragment_tables(RONDO_PTX_FRAGMENTS);
  return tables.at(name);
}

struct SimulatedWarp {
  static constexpr int held_lanes = mma::warp_lanes;
  static constexpr int slot(int lane) { return lane; }

  int number;

  template <class F>
  void each(const F& f) const {
    for (int lane = 0; lane < mma::warp_lanes; ++lane) f(lane);
  }
  template <class Wanted, class F>
  void each_if_any(const Wanted& wanted, const F& f) const {
    bool any = false;
    each([&](int lane) { any |= wanted(lane); });
    if (any) each(f);
  }
  template <class F>
  void each_anew(const F& f) const {
    each(f);
  }

  template <bool Transposed, class T, class Offset>
  void load_matrices(mma::Pairs<SimulatedWarp>& to, const T* tile, const Offset& offset) const {
    simulated_reads = true;
    static const FragmentTable& table = fragment_table(Transposed ? "ldmatrix.trans" : "ldmatrix");
    for (int matrix = 0; matrix < 4; ++matrix) {
      for (int lane = 0; lane < mma::warp_lanes; ++lane) {
        std::uint32_t pair = 0;
        for (int half = 0; half < 2; ++half) {
          const mma::Place place = table.at(lane, half);
          const T* begin = tile + offset(8 * matrix + place.row);
          if (reinterpret_cast<std::uintptr_t>(begin) % 16 != 0) throw std::runtime_error("ldmatrix: not aligned");
          pair |= static_cast<std::uint32_t>(begin[place.col].bits()) << (16 * half);
        }
        to.at(lane, matrix) = pair;
      }
    }
  }

  template <class T>
  void multiply_add(mma::Sums<SimulatedWarp>& c, const mma::Pairs<SimulatedWarp>& a, const mma::Pairs<SimulatedWarp>& b,
                    int first) const {
    static const FragmentTable& of_a = fragment_table("A");
    static const FragmentTable& of_b = fragment_table("B");
    static const FragmentTable& of_c = fragment_table("C");
    simulated_multiplications += 16 * 8 * 16;
    float left[16][16], right[16][8];
    for (int lane = 0; lane < mma::warp_lanes; ++lane) {
      for (int i = 0; i < 8; ++i) {
        const mma::Place place = of_a.at(lane, i);
        left[place.row][place.col] = half_of<T>(a.at(lane, i / 2), i % 2);
      }
      for (int i = 0; i < 4; ++i) {
        const mma::Place place = of_b.at(lane, i);
        right[place.row][place.col] = half_of<T>(b.at(lane, first + i / 2), i % 2);
      }
    }
    for (int lane = 0; lane < mma::warp_lanes; ++lane) {
      for (int i = 0; i < 4; ++i) {
        const mma::Place place = of_c.at(lane, i);
        for (int k = 0; k < 16; ++k) c.at(lane, i) += left[place.row][k] * right[k][place.col];
      }
    }
  }

  template <class T>
  static std::uint32_t rounded_pair(float low, float high) {
    return T(low).bits() | static_cast<std::uint32_t>(T(high).bits()) << 16;
  }

  template <int N, class Combine>
  void combine_rows(mma::Held<SimulatedWarp, float, N>& x, const Combine& combine) const {
    for (const int step : {1, 2}) {
      const auto before = x;
      for (int lane = 0; lane < mma::warp_lanes; ++lane) {
        for (int i = 0; i < N; ++i) x.at(lane, i) = combine(before.at(lane, i), before.at(lane ^ step, i));
      }
    }
  }

  bool any(const mma::Held<SimulatedWarp, std::uint32_t, 1>& x) const {
    for (int lane = 0; lane < mma::warp_lanes; ++lane) {
      if (x.at(lane, 0) != 0) return true;
    }
    return false;
  }
};

template <class Member, int Warps>
class SimulatedTeam {
 public:
  using Warp = SimulatedWarp;
  static constexpr int threads = Warps * mma::warp_lanes;

  template <class S>
  struct PerWarp {
    std::vector<S> all = std::vector<S>(Warps);
    S& operator[](const Warp& warp) { return all[static_cast<std::size_t>(warp.number)]; }
  };

  explicit SimulatedTeam(const Member& /*member*/) { simulated_reads = false; }

  template <class F>
  void warps(const F& f) const {
    for (int number = 0; number < Warps; ++number) f(Warp{number});
  }
  template <class F>
  void share(int count, const F& f) const {
    if (simulated_reads)
      throw std::runtime_error("shared memory is written before a barrier: other warps may be reading");
    for (int i = 0; i < count; ++i) f(i);
  }
  template <class F>
  void each_thread(const F& f) const {
    share(threads, [&](int thread) { f(static_cast<unsigned>(thread)); });
  }
  void barrier() {
    for (const Copy& copy : waited_for_) {
      if (copy.from != nullptr) {
        std::memcpy(copy.to, copy.from, 16);
      } else {
        std::memset(copy.to, 0, 16);
      }
    }
    waited_for_.clear();
    simulated_reads = false;
  }

  void start_copy(void* to, const void* from, bool is_there) {
    std::memset(to, 0xff, 16);
    open_.push_back({to, is_there ? from : nullptr});
  }
  void end_group() {
    groups_.push_back(open_);
    open_.clear();
  }
  template <int Pending>
  void wait() {
    while (groups_.size() > Pending) {
      waited_for_.insert(waited_for_.end(), groups_.front().begin(), groups_.front().end());
      groups_.pop_front();
    }
  }

 private:
  struct Copy {
    void* to;
    const void* from;  ///< null: zeros
  };
  std::vector<Copy> open_, waited_for_;
  std::deque<std::vector<Copy>> groups_;
};

/// Play for mma_kernel on a host's execution space: a team is one thread there.
struct simulated {
  template <class Member, int Warps>
  using Team = SimulatedTeam<Member, Warps>;

  template <class Exec>
  using Member = typename Kokkos::TeamPolicy<Exec>::member_type;

  static constexpr int scratch_level = 1;  ///< the first is too small on a host

  template <class Member>
  static void* shared(const Member& member, std::size_t bytes) {
    return member.team_scratch(scratch_level).get_shmem_aligned(bytes, 16);
  }

  template <class Exec, class Functor>
  static bool launch(const char* name, const Exec& exec, int league, int bytes, const Functor& functor) {
    Kokkos::TeamPolicy<Exec> policy(exec, league, 1, 1);
    policy.set_scratch_size(scratch_level, Kokkos::PerTeam(bytes + 16));
    Kokkos::parallel_for(name, policy, functor);
    return true;
  }
};

}  // namespace rondo::test
