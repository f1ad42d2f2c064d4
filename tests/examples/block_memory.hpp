/// \file
/// What a rank's activations take in training, whole blocks with the loss: counted, and by rondo/plan's formula.
#pragma once

#include "../../examples/train/data.hpp"
#include "../../examples/train/memory.hpp"
#include "../../examples/train/trainer.hpp"

#include <support/layouts.hpp>

#include <rondo/plan/memory.hpp>
#include <rondo/rondo.hpp>

#include <catch2/catch_message.hpp>
#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <cstdint>
#include <span>
#include <type_traits>
#include <vector>

namespace rondo::test {

/// A rank of a model at work: the most that it held, and what came of it.
template <class T>
struct BlockRun {
  std::vector<std::int64_t> peak;  ///< [rank]
  std::vector<T> gradient;         ///< rank 0's part
  double loss = 0;
};

template <class T>
BlockRun<T> run_blocks(const train::ModelShape& shape, std::int64_t tokens, int ranks, std::int64_t chunk,
                       plan::Recompute recompute) {
  const std::int64_t context = tokens * ranks;
  std::vector<std::uint8_t> text(static_cast<std::size_t>(context) + 1);
  for (std::size_t i = 0; i < text.size(); ++i) text[i] = static_cast<std::uint8_t>(train::random_bits(5, 1, i) % 11);
  BlockRun<T> result;
  result.peak.resize(static_cast<std::size_t>(ranks));
  in_process_group<Kokkos::DefaultHostExecutionSpace>(ranks, {.deadline = Deadline{60}}).run([&](auto& comm) {
    using Comm = std::remove_reference_t<decltype(comm)>;
    using Kernel = default_kernel<T, typename Comm::execution_space>;
    const train::ParameterLayout layout(shape);
    const auto size = static_cast<std::size_t>(layout.size());
    std::vector<T> weights(size), gradient(size, T{0});
    train::initialise(layout, 3, weights.data());
    const auto run = [&](std::int64_t length) {
      train::Model<Comm, Kernel> model(comm, shape, sharding_of(Layout::striped, length), Kernel{},
                                       Options{.chunk = chunk}, recompute);
      std::fill(gradient.begin(), gradient.end(), T{0});
      return model.loss_and_gradient(train::bind<const T>(layout, weights.data()),
                                     train::Window(text).first(static_cast<std::size_t>(length) + 1),
                                     train::bind<T>(layout, gradient.data()));
    };
    run(ranks);  // what Kokkos keeps of a thread's scratch memory, whatever the number of tokens, is there from here on
    const std::int64_t before = train::MemoryCount::bytes();
    const double loss = run(context);
    result.peak[static_cast<std::size_t>(comm.rank())] = train::MemoryCount::peak() - before;
    if (comm.rank() == 0) {
      result.gradient = gradient;
      result.loss = loss;
    }
  });
  return result;
}

template <class T>
void check_block_memory() {
  using plan::Recompute;
  constexpr std::int64_t tokens = 24, chunk = 10;
  const train::MemoryCount counting;
  for (const int kv_heads : {4, 2}) {
    const train::ModelShape shape{.layers = 3, .heads = 4, .kv_heads = kv_heads, .dim = 32, .hidden = 40};
    const train::ParameterLayout layout(shape);
    plan::Setting setting{.model = plan::Model{.dim = shape.dim,
                                               .heads = shape.heads,
                                               .kv_heads = kv_heads,
                                               .layers = shape.layers,
                                               .ffn = shape.hidden,
                                               .gated = true,
                                               .vocabulary = train::ModelShape::vocabulary},
                          .type = {"", sizeof(T), sizeof(T)}};
    const auto bytes = [&](Recompute recompute) {
      const plan::BlockBytes block = plan::block_bytes(setting.model, setting.type, recompute);
      return tokens * (shape.layers * block.kept + block.at_work) + plan::dense_bytes(setting);
    };
    CHECK(bytes(Recompute::layers) < bytes(Recompute::all_but_attention));
    CHECK(bytes(Recompute::all_but_attention) < bytes(Recompute::nothing));
    for (const int ranks : {1, 2, 4, 8, 16, 32}) {
      const auto attention = static_cast<double>(
          workspace_bytes(
              default_kernel<T, Kokkos::DefaultHostExecutionSpace>{},
              Shape{.heads = shape.heads, .kv_heads = kv_heads, .head_dim = static_cast<int>(shape.head_dim())},
              sharding_of(Layout::striped, tokens * ranks), ranks, 0, chunk)
              .total());
      const BlockRun<T> kept = run_blocks<T>(shape, tokens, ranks, chunk, Recompute::nothing);
      for (const Recompute recompute : {Recompute::nothing, Recompute::all_but_attention, Recompute::layers}) {
        INFO(kv_heads << " kv heads, " << ranks << " ranks, recompute " << static_cast<int>(recompute));
        const BlockRun<T> run = run_blocks<T>(shape, tokens, ranks, chunk, recompute);
        for (const std::int64_t peak : run.peak) CHECK(static_cast<double>(peak) == bytes(recompute) + attention);
        // What is computed again has the same bits.
        CHECK(run.loss == kept.loss);
        for (const train::TensorPlace& place : layout.tensors()) {
          INFO(place.name);
          const auto first = static_cast<std::size_t>(place.offset);
          const auto count = static_cast<std::size_t>(place.rows * place.columns);
          CHECK(std::ranges::equal(std::span{run.gradient}.subspan(first, count),
                                   std::span{kept.gradient}.subspan(first, count)));
        }
      }
    }
  }
}

}  // namespace rondo::test
