#include <rondo/comm/concept.hpp>
#include <rondo/comm/in_process.hpp>
#include <rondo/kernel/concept.hpp>
#include <rondo/kernel/portable/portable.hpp>

#include <catch2/catch_test_macros.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

/// The concepts of what moves bytes and what computes: each accepts what ships and one written by a user, and refuses
/// near misses that lack one thing.
namespace {

using namespace rondo;
using Exec = Kokkos::DefaultExecutionSpace;
using Space = Exec::memory_space;

// Transfers.
struct user_transfer {
  bool test() { return true; }
  void wait() {}
  void order(const Exec&) {}
};
struct tests_by_number : user_transfer {
  int test() { return 1; }
};
struct cannot_wait {
  bool test() { return true; }
  void order(const Exec&) {}
};
struct cannot_order {
  bool test() { return true; }
  void wait() {}
};
struct stays_where_it_is : user_transfer {
  stays_where_it_is() = default;
  stays_where_it_is(stays_where_it_is&&) = delete;
};
static_assert(Transfer<in_process::Transfer<Exec>> && Transfer<user_transfer>);
static_assert(!std::copyable<in_process::Transfer<Exec>>, "a started exchange has one owner");
static_assert(!Transfer<tests_by_number> && !Transfer<cannot_wait> && !Transfer<cannot_order> &&
              !Transfer<stays_where_it_is> && !Transfer<int>);

// Communicators. `Self` is what split returns.
template <class Self>
struct lonely_base {
  using execution_space = Exec;
  using memory_space = Space;
  static constexpr bool stream_ordered = false;
  int rank() const { return 0; }
  int size() const { return 1; }
  Exec execution_instance() const { return {}; }
  Deadline deadline() const { return Deadline(1); }
  user_transfer exchange(const Exec&, std::span<const Segment<Space>>, Where = {}) { return {}; }
  void all_reduce(std::span<float>, Reduction) {}
  void all_reduce(std::span<double>, Reduction) {}
  void all_reduce(std::span<std::int64_t>, Reduction) {}
  void broadcast(std::span<std::byte>, int) {}
  void barrier() {}
  Self split(int, int) { return {}; }
  bool agree(bool ok) { return ok; }
};
struct lonely : lonely_base<lonely> {};
struct splits_into_another : lonely_base<lonely> {};
struct without_barrier : lonely_base<without_barrier> {
  void barrier() = delete;
};
struct without_agree : lonely_base<without_agree> {
  void agree(bool) {}
};
struct without_doubles : lonely_base<without_doubles> {
  void all_reduce(std::span<float>, Reduction) {}
  void all_reduce(std::span<std::int64_t>, Reduction) {}
};
struct starts_nothing : lonely_base<starts_nothing> {
  void exchange(const Exec&, std::span<const Segment<Space>>, Where = {}) {}
};
struct does_not_say_where : lonely_base<does_not_say_where> {
  user_transfer exchange(const Exec&, std::span<const Segment<Space>>) { return {}; }
};
struct broadcasts_floats : lonely_base<broadcasts_floats> {
  void broadcast(std::span<float>, int) {}
};
struct counts_in_long : lonely_base<counts_in_long> {
  std::int64_t size() const { return 1; }
};
struct has_no_deadline : lonely_base<has_no_deadline> {
  void deadline() const {}
};
struct of_no_space : lonely_base<of_no_space> {
 private:
  using execution_space = Exec;
};
struct does_not_say_its_order : lonely_base<does_not_say_its_order> {
  using stream_ordered = void;
};
struct orders_streams : lonely_base<orders_streams> {
  static constexpr bool stream_ordered = true;
  void fence(const Exec&, const char*) {}
};
struct cannot_fence : lonely_base<cannot_fence> {
  static constexpr bool stream_ordered = true;
};
static_assert(Communicator<in_process_communicator<>> && Communicator<lonely> && Communicator<orders_streams>);
static_assert(!Communicator<cannot_fence>, "the host must be able to leave a stream that waits for a peer");
static_assert(!Communicator<splits_into_another>, "a part of a communicator is of the same type");
static_assert(!Communicator<without_barrier> && !Communicator<without_agree> && !Communicator<without_doubles> &&
              !Communicator<starts_nothing> && !Communicator<does_not_say_where> && !Communicator<broadcasts_floats> &&
              !Communicator<counts_in_long> && !Communicator<has_no_deadline> && !Communicator<of_no_space> &&
              !Communicator<does_not_say_its_order>);
static_assert(!Communicator<int> && !Communicator<in_process_group<>>);

// Kernels.
struct user_kernel {
  using value_type = float;
  using accumulate_type = float;
  using execution_space = Exec;
  static constexpr std::uint32_t wire_format = 1000;
  using In = Tensor<const float, 4, Space>;
  using Out = Tensor<float, 4, Space>;
  using Rows = Tensor<float, 3, Space>;
  using InRows = Tensor<const float, 3, Space>;
  using Wire = WireView<Space>;
  std::size_t wire_bytes(Pass, const Shape&, std::int64_t) const { return 0; }
  void pack(const Exec&, Pass, const Shape&, const In&, const In&, const Wire&) const {}
  template <ProblemType P>
  void fold(const Exec&, const P&, const Shape&, const In&, const Run&, const Wire&, const Run&,
            const SoftmaxState<float, Space>&, Phase) const {}
  template <ProblemType P>
  void finish(const Exec&, const P&, const SoftmaxState<float, Space>&, const Out&, const Rows&) const {}
  void delta(const Exec&, const In&, const In&, const Rows&) const {}
  template <ProblemType P>
  void fold_gradient(const Exec&, const P&, const Shape&, const In&, const In&, const InRows&, const InRows&,
                     const Run&, const Wire&, const Run&, const Out&, const Out&, const Out&, double*) const {}
};
struct without_wire_format : user_kernel {
  void wire_format() const {}
};
struct without_gradient : user_kernel {
  void fold_gradient() const {}
};
struct without_pack : user_kernel {
  void pack() const {}
};
struct without_delta : user_kernel {
  void delta() const {}
};
struct of_one_mask : user_kernel {
  template <class P>
    requires std::same_as<typename P::mask_type, full>
  void fold(const Exec&, const P&, const Shape&, const In&, const Run&, const Wire&, const Run&,
            const SoftmaxState<float, Space>&, Phase) const {}
};
struct changes_when_it_folds : user_kernel {
  template <ProblemType P>
  void fold(const Exec&, const P&, const Shape&, const In&, const Run&, const Wire&, const Run&,
            const SoftmaxState<float, Space>&, Phase) {}  // not const
};
struct one_of_a_kind : user_kernel {
  one_of_a_kind(const one_of_a_kind&) = delete;
};
static_assert(BlockKernel<portable_kernel<float>> && BlockKernel<portable_kernel<double>> &&
              BlockKernel<portable_kernel<bfloat16>>);
static_assert(BlockKernel<user_kernel>);
static_assert(!BlockKernel<without_wire_format> && !BlockKernel<without_gradient> && !BlockKernel<without_pack> &&
              !BlockKernel<without_delta> && !BlockKernel<of_one_mask> && !BlockKernel<changes_when_it_folds> &&
              !BlockKernel<one_of_a_kind> && !BlockKernel<int>);

// What a rank may be asked to run.
template <class Work>
concept RunsOnRanks = requires(in_process_group<>& group, Work work) { group.run(work); };
static_assert(RunsOnRanks<void (*)(in_process_communicator<>&)>);
static_assert(!RunsOnRanks<void (*)()> && !RunsOnRanks<void (*)(int)> && !RunsOnRanks<int>);

TEST_CASE("The concepts of communicators, transfers and kernels accept and refuse what they should") {
  SUCCEED("checked when this program was compiled");
}

}  // namespace
