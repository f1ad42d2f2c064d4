/// \file
/// A host that plays a block of warp groups, all lanes of a group one after the other, with instructions that do what
/// the ISA's tables say. Everything asynchronous happens as late as it may: copies arrive when somebody waits for their
/// barrier, and are NaN until then; products are made when somebody waits for them, their sums are NaN until then.
/// Groups and the copying thread take turns whenever one waits or sets another free.
#pragma once

#include "tables.hpp"
#include "turns.hpp"

#include <kernel/mma/simulated.hpp>
#include <kernel/tensor_core/simulated.hpp>

#include <rondo/kernel/hopper/device.hpp>

#include <Kokkos_Core.hpp>

#include <array>
#include <cstdint>
#include <cstring>
#include <deque>
#include <functional>
#include <limits>
#include <map>
#include <stdexcept>
#include <utility>
#include <vector>

namespace rondo::test {

/// What can be made to go wrong, in the place of a kernel that forgets something.
enum class HopperFault {
  none,
  plain_copies,       ///< copied without the swizzle
  plain_operands,     ///< multiplied without the swizzle
  no_wait_for_full,   ///< groups do not wait for copies
  no_wait_for_empty,  ///< the copying thread does not wait for groups
  wrong_phase,        ///< groups wait for the phase before
  few_bytes,          ///< a barrier is told of half of its bytes
  no_wait_for_products,
  no_release,     ///< groups never say that a place is empty
  no_publishing,  ///< what lanes write is not made visible to products
  no_beginning,   ///< products begin without a fence
  rows_moved,     ///< operands begin eight rows too late
};
inline HopperFault hopper_fault = HopperFault::none;

/// An mbarrier, as the ISA describes it.
struct SimulatedBarrier {
  int arrivals = 0;
  int pending = 0;
  std::int64_t bytes = 0;
  std::uint32_t phase = 0;

  bool over(std::uint32_t parity) const { return phase % 2 != parity; }
  void update() {
    if (pending != 0 || bytes != 0) return;
    ++phase;
    pending = arrivals;
  }
};

/// What all roles of a block share.
class SimulatedShared {
 public:
  SimulatedShared(const hopper::CopySource (&sources)[2], int bytes)
      : sources_{sources[0], sources[1]}, memory_(static_cast<std::size_t>(bytes) + hopper::pattern_bytes, 0xff) {
    const auto at = reinterpret_cast<std::uintptr_t>(memory_.data());
    base_ = memory_.data() + (hopper::pattern_bytes - at % hopper::pattern_bytes) % hopper::pattern_bytes;
    end_ = base_ + bytes;
  }

  unsigned char* base() const { return base_; }
  /// Shared memory begins somewhere, with nothing swizzled before it.
  static constexpr std::uint32_t first_address = 3 * hopper::pattern_bytes;
  std::uint32_t address(const void* pointer) const {
    return static_cast<std::uint32_t>(static_cast<const unsigned char*>(pointer) - base_) + first_address;
  }
  std::uint16_t element(std::uint32_t address) const {
    std::uint16_t bits = 0;
    if (address < first_address || base_ + (address - first_address) + 2 > end_) {
      throw std::runtime_error("a product reads beyond shared memory");
    }
    std::memcpy(&bits, base_ + (address - first_address), 2);
    return bits;
  }

  void make_barrier(const void* barrier, int arrivals) { barriers_[barrier] = {arrivals, arrivals}; }
  void wait(const void* barrier, std::uint32_t parity) {
    SimulatedBarrier& it = barriers_.at(barrier);
    turns.wait([this, barrier, &it, parity] {
      if (!it.over(parity)) deliver(barrier);
      return it.over(parity);
    });
  }
  /// (Who fills places goes on as far as it can: whoever uses one may find it written again as soon as it has been set
  /// free.)
  void arrive(const void* barrier, int times, std::int64_t bytes = 0) {
    SimulatedBarrier& it = barriers_.at(barrier);
    it.bytes += bytes;
    it.pending -= times;
    if (it.pending < 0) throw std::runtime_error("more arrive at a barrier than it waits for");
    it.update();
    if (bytes == 0) turns.offer();
  }

  void start_copy(void* to, const void* barrier, int source, const std::array<std::int64_t, 4>& at) {
    if (address(to) % hopper::pattern_bytes != 0)
      throw std::runtime_error("a copy to where the swizzle does not begin");
    if (!sources_[source].can_be_copied()) throw std::runtime_error("a source that tensor copies cannot read");
    std::memset(to, 0xff, static_cast<std::size_t>(box_bytes(source)));
    copies_.push_back({static_cast<unsigned char*>(to), barrier, source, at});
  }
  bool all_arrived() const { return copies_.empty(); }

  Turns turns;

 private:
  struct Copy {
    unsigned char* to;
    const void* barrier;
    int source;
    std::array<std::int64_t, 4> at;  ///< column, row, slice, block
  };

  std::int64_t box_bytes(int source) const {
    return std::int64_t{2} * hopper::panel_columns * sources_[source].box_rows;
  }

  /// Somebody waits for this barrier: what is on its way there arrives.
  void deliver(const void* barrier) {
    for (std::size_t i = 0; i < copies_.size();) {
      if (copies_[i].barrier != barrier) {
        ++i;
        continue;
      }
      const Copy copy = copies_[i];
      copies_.erase(copies_.begin() + static_cast<std::ptrdiff_t>(i));
      arrive_at(copy);
      SimulatedBarrier& it = barriers_.at(barrier);
      it.bytes -= box_bytes(copy.source);
      it.update();
    }
  }
  void arrive_at(const Copy& copy) const {
    const hopper::CopySource& source = sources_[copy.source];
    const auto [first_column, first_row, slice, block] = copy.at;
    const auto* from = static_cast<const unsigned char*>(source.data);
    for (int row = 0; row < source.box_rows; ++row) {
      for (int col = 0; col < hopper::panel_columns; ++col) {
        const std::uint32_t plain = static_cast<std::uint32_t>(row * hopper::panel_columns + col) * 2;
        unsigned char* to =
            copy.to + (hopper_fault == HopperFault::plain_copies ? plain : swizzle_tables().swizzled(plain));
        const bool inside = first_row + row < source.rows && first_column + col < source.columns &&
                            slice < source.slices && block < source.blocks;
        const std::int64_t at = first_column + col + (first_row + row) * source.row_stride +
                                slice * source.slice_stride + block * source.block_stride;
        to[0] = inside ? from[2 * at] : 0;
        to[1] = inside ? from[2 * at + 1] : 0;
      }
    }
  }

  hopper::CopySource sources_[2];
  std::vector<unsigned char> memory_;
  unsigned char* base_;
  unsigned char* end_;
  std::map<const void*, SimulatedBarrier> barriers_;
  std::vector<Copy> copies_;
};

struct SimulatedProducer {
  SimulatedShared& shared;

  void wait(const void* barrier, std::uint32_t parity) const {
    if (hopper_fault != HopperFault::no_wait_for_empty) shared.wait(barrier, parity);
  }
  void expect(void* barrier, std::uint32_t bytes) const {
    shared.arrive(barrier, 1, hopper_fault == HopperFault::few_bytes ? bytes / 2 : bytes);
  }
  void copy(void* to, void* barrier, int source, int column, int row, int slice, int block) const {
    shared.start_copy(to, barrier, source, {column, row, slice, block});
  }
};

class SimulatedGroup {
 public:
  static constexpr int held_lanes = hopper::group_lanes;
  static constexpr int slot(int lane) { return lane; }
  template <int N>
  using Sums = hopper::Held<SimulatedGroup, float, N>;

  const int number;

  SimulatedGroup(int which, SimulatedShared& shared) : number(which), shared_(shared) {}
  SimulatedGroup(const SimulatedGroup&) = delete;
  SimulatedGroup& operator=(const SimulatedGroup&) = delete;

  template <class F>
  void each(const F& f) const {
    for (int lane = 0; lane < hopper::group_lanes; ++lane) f(lane);
  }
  template <class Wanted, class F>
  void each_if_any(const Wanted& wanted, const F& f) const {
    for (int first = 0; first < hopper::group_lanes; first += mma::warp_lanes) {
      bool any = false;
      for (int lane = first; lane < first + mma::warp_lanes; ++lane) any |= wanted(lane);
      for (int lane = first; any && lane < first + mma::warp_lanes; ++lane) f(lane);
    }
  }
  template <class F>
  void warps(const F& f) const {
    for (int warp = 0; warp < hopper::group_warps; ++warp) f(SimulatedWarp{number * hopper::group_warps + warp});
  }
  template <class F>
  void share(int count, const F& f) const {
    published_ = false;
    for (int i = 0; i < count; ++i) f(i);
  }
  void publish() const { published_ = hopper_fault != HopperFault::no_publishing; }
  bool any(const hopper::Held<SimulatedGroup, std::uint32_t, 1>& x) const {
    for (int lane = 0; lane < hopper::group_lanes; ++lane) {
      if (x.at(lane, 0) != 0) return true;
    }
    return false;
  }

  void wait(const void* barrier, std::uint32_t parity) const {
    if (hopper_fault == HopperFault::no_wait_for_full) return;
    shared_.wait(barrier, hopper_fault == HopperFault::wrong_phase ? parity ^ 1u : parity);
  }
  void arrive(const void* barrier) const {
    if (hopper_fault != HopperFault::no_release) shared_.arrive(barrier, hopper::group_warps);
  }

  void begin_products() const { begun_ = hopper_fault != HopperFault::no_beginning; }
  template <class T, int Columns>
  void multiply(Sums<Columns / 2>& d, std::uint64_t a, std::uint64_t b, bool accumulate) const {
    begin<Columns>(d, [this, a, b, accumulate](float* sums) {
      std::vector<float> left, right;
      read<T, hopper::group_rows>(left, a, false);
      read<T, Columns>(right, b, false);
      add<Columns>(sums, accumulate, left, right);
    });
  }
  template <class T, int Columns>
  void multiply(Sums<Columns / 2>& d, const hopper::Held<SimulatedGroup, std::uint32_t, 4>& a, std::uint64_t b) const {
    begin<Columns>(d, [this, &a, b](float* sums) {
      static const FragmentTable& table = group_table("A");
      std::vector<float> left(hopper::group_rows * 16), right;
      for (int lane = 0; lane < hopper::group_lanes; ++lane) {
        for (int i = 0; i < 8; ++i) {
          const mma::Place place = table.at(lane, i);
          left[static_cast<std::size_t>(place.row * 16 + place.col)] = half_of<T>(a.at(lane, i / 2), i % 2);
        }
      }
      read<T, Columns>(right, b, true);
      add<Columns>(sums, true, left, right);
    });
  }
  void end_products() const {
    batches_.push_back(std::move(open_));
    open_.clear();
    begun_ = false;
  }
  template <int Pending>
  void wait_products() const {
    const std::size_t left = Pending + (hopper_fault == HopperFault::no_wait_for_products ? 1 : 0);
    while (batches_.size() > left) {
      for (const Product& product : batches_.front()) product.make(in_flight_.at(product.sums).values.data());
      const std::vector<Product> made = std::move(batches_.front());
      batches_.pop_front();
      for (const Product& product : made) land(product.sums);
    }
  }
  template <int N>
  void settle(Sums<N>& d) const {
    if (in_flight_.count(&d.values[0][0]) != 0) throw std::runtime_error("sums are used that nobody has waited for");
  }
  void settle(const hopper::Held<SimulatedGroup, std::uint32_t, 4>& /*a*/) const {
    if (!batches_.empty()) throw std::runtime_error("registers are used that products may still read");
  }
  /// Whether everything that was begun has been waited for.
  bool all_landed() const { return in_flight_.empty() && open_.empty(); }

  template <class T>
  static std::uint32_t rounded_pair(float low, float high) {
    return SimulatedWarp::rounded_pair<T>(low, high);
  }
  template <int N, class Combine>
  void combine_rows(Sums<N>& x, const Combine& combine) const {
    for (const int step : {1, 2}) {
      const auto before = x;
      for (int lane = 0; lane < hopper::group_lanes; ++lane) {
        for (int i = 0; i < N; ++i) x.at(lane, i) = combine(before.at(lane, i), before.at(lane ^ step, i));
      }
    }
  }

 private:
  struct Product {
    float* sums;
    std::function<void(float*)> make;
  };
  /// Sums of which products are under way: the numbers, while their registers hold NaN.
  struct InFlight {
    std::vector<float> values;
    std::vector<float> held;
  };

  template <int Columns>
  void begin(Sums<Columns / 2>& d, std::function<void(float*)> make) const {
    if (!begun_) throw std::runtime_error("products begin without a fence");
    if (!published_) throw std::runtime_error("products begin before what was written is visible to them");
    float* const sums = &d.values[0][0];
    constexpr std::size_t count = hopper::group_lanes * Columns / 2;
    if (in_flight_.count(sums) == 0) {
      const std::vector<float> poison(count, std::numeric_limits<float>::quiet_NaN());
      in_flight_[sums] = {std::vector<float>(sums, sums + count), poison};
      std::memcpy(sums, poison.data(), count * sizeof(float));
    }
    open_.push_back({sums, std::move(make)});
  }

  void land(float* sums) const {
    const auto it = in_flight_.find(sums);
    if (it == in_flight_.end()) return;
    for (const auto& batch : batches_) {
      for (const Product& product : batch) {
        if (product.sums == sums) return;
      }
    }
    const std::size_t bytes = it->second.held.size() * sizeof(float);
    if (std::memcmp(sums, it->second.held.data(), bytes) != 0) {
      throw std::runtime_error("sums were written while products were under way");
    }
    std::memcpy(sums, it->second.values.data(), bytes);
    in_flight_.erase(it);
  }

  /// An operand, as its descriptor says: elements [row][k] with the depth along rows, or [column][k] with it down
  /// columns.
  template <class T, int Rows>
  void read(std::vector<float>& elements, std::uint64_t descriptor, bool down) const {
    const SwizzleTables& tables = swizzle_tables();
    const auto bytes = [&](const char* name) {
      return static_cast<std::uint32_t>(tables.field(descriptor, name)) * 16;
    };
    if (tables.field(descriptor, "swizzle") != 1 || tables.field(descriptor, "base_offset") != 0) {
      throw std::runtime_error("not the 128-byte swizzle from where it begins");
    }
    const std::uint32_t leading = bytes("leading"), stride = bytes("stride");
    const std::uint32_t begin = bytes("address") + (hopper_fault == HopperFault::rows_moved ? stride : 0);
    elements.resize(Rows * 16);
    for (std::uint32_t row = 0; row < Rows; ++row) {
      for (std::uint32_t k = 0; k < 16; ++k) {
        // Blocks of eight lines of 128 bytes: `stride` apart in the direction of lines, `leading` from panel to panel.
        const std::uint32_t line = down ? k : row, in_line = down ? row : k;
        const std::uint32_t at = begin + line % 8 * 128 + line / 8 * stride + in_line % 64 * 2 + in_line / 64 * leading;
        const std::uint16_t bits =
            shared_.element(hopper_fault == HopperFault::plain_operands ? at : tables.swizzled(at));
        elements[row * 16 + k] = half_of<T>(bits, 0);
      }
    }
  }

  /// \param left, right  [row][k] and [column][k]
  template <int Columns>
  static void add(float* sums, bool accumulate, const std::vector<float>& left, const std::vector<float>& right) {
    simulated_multiplications += hopper::group_rows * Columns * 16;
    for (int lane = 0; lane < hopper::group_lanes; ++lane) {
      for (int i = 0; i < Columns / 2; ++i) {
        const mma::Place place = place_in_sums(lane, i);
        const float* a = &left[static_cast<std::size_t>(place.row * 16)];
        const float* b = &right[static_cast<std::size_t>(place.col * 16)];
        float sum = accumulate ? sums[lane * (Columns / 2) + i] : 0.0f;
        for (int k = 0; k < 16; ++k) sum += a[k] * b[k];
        sums[lane * (Columns / 2) + i] = sum;
      }
    }
  }

  SimulatedShared& shared_;
  mutable bool published_ = true;
  mutable bool begun_ = false;
  mutable std::vector<Product> open_;
  mutable std::deque<std::vector<Product>> batches_;
  mutable std::map<float*, InFlight> in_flight_;
};

template <int Consumers>
struct SimulatedBlock {
  using Group = SimulatedGroup;
  using Producer = SimulatedProducer;

  int number;
  unsigned char* shared;
  SimulatedShared& all;

  std::uint32_t address(const void* pointer) const { return all.address(pointer); }
  void make_barrier(const void* barrier, int arrivals) const { all.make_barrier(barrier, arrivals); }

  template <class Produce, class Consume>
  void play(const Produce& produce, const Consume& consume) const {
    std::vector<std::function<void()>> roles{[&] { produce(Producer{all}); }};
    for (int group = 0; group < Consumers; ++group) {
      roles.emplace_back([&, group] {
        const Group it(group, all);
        consume(it);
        if (!it.all_landed()) throw std::runtime_error("a group leaves with products under way");
      });
    }
    all.turns.play(roles);
    if (!all.all_arrived()) throw std::runtime_error("a block ends with copies under way");
  }
};

/// Play for hopper_kernel on a host's execution space: one block after the other.
struct simulated_hopper {
  template <class Exec>
  static bool has_instructions(const Exec&) {
    return true;
  }
  template <class Exec, class Functor>
  static bool launch(const Exec& exec, int blocks, const Functor& functor, const hopper::CopySource (&sources)[2]) {
    exec.fence();
    for (int number = 0; number < blocks; ++number) {
      SimulatedShared shared(sources, Functor::shared_bytes);
      functor(SimulatedBlock<Functor::consumers>{number, shared.base(), shared});
    }
    return true;
  }
};

}  // namespace rondo::test
