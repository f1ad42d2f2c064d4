/// \file
/// A host that plays the waves of a team, lane by lane: the kernel's own code with the instructions done as AMD's tables say.
/// What is written to shared memory arrives as late as it may, at the next barrier, and leaves NaN until then, so that
/// reading it too early shows. Whoever writes where a wave has read since the last barrier is told.
#pragma once

#include <kernel/mma/tables.hpp>
#include <kernel/tensor_core/simulated.hpp>

#include <rondo/kernel/mfma/device.hpp>

#include <Kokkos_Core.hpp>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

namespace rondo::test {

/// AMD's tables, from cdna_fragments.txt.
inline const FragmentTable& cdna_table(const std::string& name) {
  static const auto tables = read_fragment_tables(RONDO_CDNA_FRAGMENTS, mfma::wave_lanes);
  return tables.at(name);
}

/// What may be wrong on purpose: the test of faults sees each noticed.
enum class MfmaFault { none, transposed_operand, wrong_lane, no_barrier_before_writing, no_barrier_before_reading };
inline std::atomic<MfmaFault> mfma_fault = MfmaFault::none;
inline std::atomic<int> mfma_complaints = 0;

/// Writes to shared memory since the last barrier of the team that this thread plays.
struct SimulatedWrite {
  void* to;
  std::uint64_t bits;
  std::size_t bytes;
};
inline thread_local std::vector<SimulatedWrite> simulated_writes;

struct SimulatedWave {
  static constexpr int held_lanes = mfma::wave_lanes;
  static constexpr int slot(int lane) { return lane; }

  int number;

  template <class F>
  void each(const F& f) const {
    for (int lane = 0; lane < mfma::wave_lanes; ++lane) f(lane);
  }
  template <class F>
  void each_anew(const F& f) const {
    each(f);
  }

  template <class T>
  static void read(const T* from, std::uint32_t& low, std::uint32_t& high) {
    if (reinterpret_cast<std::uintptr_t>(from) % 8 != 0) throw std::runtime_error("ds_read_b64: not aligned");
    simulated_reads = true;
    std::memcpy(&low, static_cast<const void*>(from), 4);
    std::memcpy(&high, static_cast<const void*>(from + 2), 4);
  }
  template <class T>
  static T read_one(const T* from) {
    simulated_reads = true;
    return *from;
  }
  template <class T>
  static void write(T* to, std::uint32_t low, std::uint32_t high) {
    if (reinterpret_cast<std::uintptr_t>(to) % 8 != 0) throw std::runtime_error("ds_write_b64: not aligned");
    write_bits(to, low | static_cast<std::uint64_t>(high) << 32, 8);
  }
  template <class T>
  static void write(T* to, T x) {
    write_bits(to, x.bits(), 2);
  }

  template <class T, int N>
  void multiply_add(mfma::Held<SimulatedWave, float, N>& c, const mfma::Quad<SimulatedWave>& a,
                    const mfma::Quad<SimulatedWave>& b) const {
    constexpr int size = N == mfma::lane_sums<32> ? 32 : 16;
    constexpr int depth = mfma::depth<size>;
    static const FragmentTable& of_a = cdna_table("A." + std::to_string(size));
    static const FragmentTable& of_b = cdna_table("B." + std::to_string(size));
    static const FragmentTable& of_c = cdna_table("D." + std::to_string(size));
    simulated_multiplications += size * size * depth;
    float left[size][depth], right[depth][size];
    bool finite = true, nothing[size];
    std::fill_n(nothing, size, true);
    for (int lane = 0; lane < mfma::wave_lanes; ++lane) {
      for (int i = 0; i < 4; ++i) {
        const bool next = mfma_fault == MfmaFault::wrong_lane && lane == 5;
        tensor_core::Place in_a = of_a.at(lane, i);
        const tensor_core::Place in_b = of_b.at(next ? lane + 1 : lane, i);
        if (mfma_fault == MfmaFault::transposed_operand) in_a = {in_a.col + in_a.row / depth * depth, in_a.row % depth};
        const float x = half_of<T>(a.at(lane, i / 2), i % 2), y = half_of<T>(b.at(lane, i / 2), i % 2);
        left[in_a.row][in_a.col] = x;
        right[in_b.row][in_b.col] = y;
        finite = finite && x - x == 0.0f;
        nothing[in_b.col] = nothing[in_b.col] && y == 0.0f;
      }
    }
    for (int lane = 0; lane < mfma::wave_lanes; ++lane) {
      for (int i = 0; i < N; ++i) {
        const tensor_core::Place place = of_c.at(lane, i);
        if (finite && nothing[place.col]) continue;  // zeros, which most columns are where a block has few rows
        float sum = c.at(lane, i);
        for (int k = 0; k < depth; ++k) sum += left[place.row][k] * right[k][place.col];
        c.at(lane, i) = sum;
      }
    }
  }

  template <int N, class Combine>
  void combine_lanes(mfma::Held<SimulatedWave, float, N>& x, int step, const Combine& combine) const {
    const auto before = x;
    for (int lane = 0; lane < mfma::wave_lanes; ++lane) {
      for (int i = 0; i < N; ++i) x.at(lane, i) = combine(before.at(lane, i), before.at(lane ^ step, i));
    }
  }

 private:
  static void write_bits(void* to, std::uint64_t bits, std::size_t bytes) {
    if (simulated_reads) {
      if (mfma_fault == MfmaFault::none) {
        throw std::runtime_error("shared memory is written before a barrier: other waves may be reading");
      }
      ++mfma_complaints;
    }
    std::memset(to, 0xff, bytes);
    simulated_writes.push_back({to, bits, bytes});
  }
};

template <class Member, int Waves>
class SimulatedTeam {
 public:
  using Warp = SimulatedWave;
  static constexpr int count = Waves;
  static constexpr int threads = Waves * mfma::wave_lanes;

  template <class S>
  struct PerWarp {
    std::vector<S> all = std::vector<S>(Waves);
    S& operator[](const Warp& wave) { return all[static_cast<std::size_t>(wave.number)]; }
  };

  explicit SimulatedTeam(const Member& /*member*/) {
    simulated_reads = false;
    simulated_writes.clear();
  }

  template <class F>
  void warps(const F& f) const {
    for (int number = 0; number < Waves; ++number) f(Warp{number});
  }
  template <class F>
  void share(int count, const F& f) const {
    for (int i = 0; i < count; ++i) f(i);
  }
  void barrier() {
    const bool before_reading = barriers_++ % 2 == 1;
    if (mfma_fault == MfmaFault::no_barrier_before_reading && before_reading) return;
    if (mfma_fault == MfmaFault::no_barrier_before_writing && !before_reading) return;
    for (const SimulatedWrite& write : simulated_writes) std::memcpy(write.to, &write.bits, write.bytes);
    simulated_writes.clear();
    simulated_reads = false;
  }

 private:
  int barriers_ = 0;
};

/// Play for mfma_kernel on a host's execution space: a team is one thread there.
struct simulated_mfma {
  template <class Member, int Waves>
  using Team = SimulatedTeam<Member, Waves>;

  static constexpr int scratch_level = 1;  ///< the first is too small on a host

  static constexpr int team_size(int) { return 1; }
};

}  // namespace rondo::test
