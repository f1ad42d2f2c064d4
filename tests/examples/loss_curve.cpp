// The training loss does not depend on how the context is spread, and notices when the ring does something wrong.
#include "../../examples/train/data.hpp"
#include "../../examples/train/trainer.hpp"
#include "block_memory.hpp"

#include <support/faults.hpp>
#include <support/layouts.hpp>

#include <rondo/rondo.hpp>

#include <catch2/catch_message.hpp>
#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <iterator>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace {

using namespace rondo::test;
using Host = Kokkos::DefaultHostExecutionSpace;  // as the program

constexpr int steps = 20;
constexpr std::int64_t context = 257;  // divides by nothing
constexpr double tolerance = 1e-4;

/// Lines that look like code, from a fixed seed.
train::Corpus corpus() {
  static const std::string words[] = {
      "for (int i = 0; i < n; ++i) {\n", "  sum += x[i];\n", "}\n", "return sum;\n", "template <class T>\n",
      "if (i == j) continue;\n"};
  std::string text;
  for (std::uint64_t i = 0; text.size() < 20'000; ++i) {
    text += words[train::random_bits(7, 1, i) % std::size(words)];
    text += "int v" + std::to_string(train::random_bits(7, 2, i) % 97) + ";\n";
  }
  return train::Corpus({text.begin(), text.end()}, context);
}

train::Recipe recipe() {
  train::Recipe result;
  result.model.layers = 2;
  result.model.heads = 4;
  result.model.kv_heads = 2;
  result.model.dim = 32;
  result.model.hidden = 64;
  result.context = context;
  result.steps = steps;
  return result;
}

/// The communicator as it is.
struct Unwrapped {
  auto& operator()(auto& comm) const { return comm; }
};

/// The losses of 20 steps on `ranks` ranks. `wrap` may put a communicator in the rank's place.
template <class Kernel = rondo::default_kernel<float, Host>, class Wrap = Unwrapped>
std::vector<double> curve(int ranks, Layout layout, const Kernel& kernel = {}, const Wrap& wrap = {}) {
  const train::Corpus text = corpus();
  std::vector<double> losses;
  rondo::in_process_group<Host>(ranks, {.deadline = rondo::Deadline{60}}).run([&](auto& group_comm) {
    auto&& comm = wrap(group_comm);
    train::Trainer<std::remove_reference_t<decltype(comm)>, Kernel> trainer(comm, recipe(),
                                                                            sharding_of(layout, context), kernel);
    for (int step = 0; step < steps; ++step) {
      const double loss = trainer.step(text.training(1, step));
      if (comm.rank() == 0) losses.push_back(loss);
    }
  });
  return losses;
}

/// What a mesh can get wrong.
enum class MeshFault { none, sums_over_ring_alone, same_windows };

constexpr int batch = 4;

/// The losses of `replicas` rings of `ring` ranks, four windows a step.
std::vector<double> mesh_curve(int replicas, int ring, MeshFault fault = MeshFault::none) {
  const train::Corpus text = corpus();
  std::vector<double> losses;
  rondo::in_process_group<Host>(replicas * ring, {.deadline = rondo::Deadline{60}}).run([&](auto& comm) {
    using Comm = std::remove_reference_t<decltype(comm)>;
    auto right = train::make_mesh(comm, replicas);
    auto alone = comm.split(right.replica, comm.rank());
    train::Mesh<Comm> mesh{fault == MeshFault::sums_over_ring_alone ? alone : comm, std::move(right.ring), replicas,
                           fault == MeshFault::same_windows ? 0 : right.replica};
    train::Trainer<Comm> trainer(mesh, recipe(), sharding_of(Layout::striped, context));
    for (int step = 0; step < steps; ++step) {
      const double loss = trainer.step(text.training(1, step, batch));
      if (comm.rank() == 0) losses.push_back(loss);
    }
  });
  return losses;
}

/// The largest relative difference of two curves.
double distance(const std::vector<double>& a, const std::vector<double>& b) {
  double largest = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double difference = std::abs(a[i] - b[i]) / std::abs(b[i]);
    if (!(difference <= largest)) largest = difference;
  }
  return largest;
}

const std::vector<double>& one_rank() {
  static const std::vector<double> losses = curve(1, Layout::contiguous);
  return losses;
}

constexpr Layout layouts[] = {Layout::contiguous, Layout::striped, Layout::zigzag};

template <class Kernel>
void check_kernel_fault(const Kernel& kernel) {
  for (const int ranks : {2, 4}) {
    INFO(ranks << " ranks");
    CHECK_FALSE(distance(curve(ranks, Layout::striped, kernel), one_rank()) <= tolerance);
  }
}

}  // namespace

TEST_CASE(
    "in float a rank's activations are the plan's to the byte at every number of ranks, whatever is computed again") {
  check_block_memory<float>();
}

TEST_CASE("the loss falls and follows the same curve at 1, 2, 4 ranks and under every sharding") {
  REQUIRE(one_rank().size() == steps);
  CHECK(one_rank().back() < one_rank().front() - 0.8);
  for (const int ranks : {1, 2, 4}) {
    for (const Layout layout : layouts) {
      const double apart = distance(curve(ranks, layout), one_rank());
      INFO(ranks << " ranks, " << name(layout));
      CHECK(apart <= tolerance);
    }
  }
}

TEST_CASE("the loss curve shows a skipped hop") {
  check_kernel_fault(faulty_kernel<rondo::default_kernel<float, Host>, skipped_hop>{});
}

TEST_CASE("the loss curve shows wrong positions") {
  check_kernel_fault(faulty_kernel<rondo::default_kernel<float, Host>, shifted_positions>{});
}

TEST_CASE("the loss curve shows a lost gradient") {
  check_kernel_fault(faulty_kernel<rondo::default_kernel<float, Host>, lost_gradient>{});
}

TEST_CASE("the loss curve shows a stale block") {
  for (const int ranks : {2, 4}) {
    INFO(ranks << " ranks");
    const auto losses = curve(ranks, Layout::striped, rondo::default_kernel<float, Host>{}, [](auto& comm) {
      return faulty_communicator<std::remove_reference_t<decltype(comm)>, stale_block>(comm);
    });
    CHECK_FALSE(distance(losses, one_rank()) <= tolerance);
  }
}

TEST_CASE("the gradient of several windows is the mean of theirs") {
  const train::Corpus text = corpus();
  rondo::in_process_group<Host>(1).run([&](auto& comm) {
    train::Trainer<std::remove_reference_t<decltype(comm)>> trainer(comm, recipe(),
                                                                    sharding_of(Layout::striped, context));
    const auto windows = text.training(1, 0, batch);
    std::vector<double> mean(trainer.gradient().size(), 0.0);
    double loss = 0;
    for (const train::Window& window : windows) {
      loss += trainer.loss_and_gradient(window) / batch;
      for (std::size_t i = 0; i < mean.size(); ++i) mean[i] += static_cast<double>(trainer.gradient()(i)) / batch;
    }
    CHECK(std::abs(trainer.loss_and_gradient(windows) - loss) <= 1e-9 * loss);
    double apart = 0;
    double norm = 0;
    for (std::size_t i = 0; i < mean.size(); ++i) {
      apart += std::pow(static_cast<double>(trainer.gradient()(i)) - mean[i], 2);
      norm += mean[i] * mean[i];
    }
    CHECK(norm > 0);
    CHECK(std::sqrt(apart / norm) <= 1e-6);
  });
}

TEST_CASE("rings side by side follow the curve of one rank that sees all their windows") {
  const std::vector<double> alone = mesh_curve(1, 1);
  CHECK(alone.back() < alone.front() - 0.8);
  CHECK(distance(alone, one_rank()) > tolerance);  // other windows
  for (const auto& [replicas, ring] : {std::pair{1, 4}, {2, 2}, {4, 1}}) {
    const double apart = distance(mesh_curve(replicas, ring), alone);
    INFO(replicas << " rings of " << ring);
    CHECK(apart <= tolerance);
  }
  CHECK_FALSE(distance(mesh_curve(2, 2, MeshFault::sums_over_ring_alone), alone) <= tolerance);
  CHECK_FALSE(distance(mesh_curve(2, 2, MeshFault::same_windows), alone) <= tolerance);
}
