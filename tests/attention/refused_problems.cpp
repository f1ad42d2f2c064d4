/// \file
/// Ranks whose masks, scores, dropout or shards differ in a parameter are told so; so is who asks for reproducible gradients
/// of what is learned.
#include <support/ring_case.hpp>

#include <rondo/reproducible.hpp>
#include <rondo/rondo.hpp>
#include <rondo/sharding/striped_blocks.hpp>

#include <catch2/catch_test_macros.hpp>

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

namespace rondo::test {
namespace {

constexpr Extents sequence{.batch = 1, .heads = 2, .kv_heads = 1, .head_dim = 4, .tokens = 64};
using Chosen = Problem<intervals, softcap_alibi, no_sink, dropout>;

Chosen chosen(const intervals& mask, softcap_alibi score = {}, dropout drop = {}) {
  return {mask, score, std::numeric_limits<double>::quiet_NaN(), {}, drop};
}

/// What both of two ranks are told.
template <class F>
std::vector<std::string> told(const F& f) {
  std::vector<std::string> texts(2);
  in_process_group<>(2).run([&](auto& comm) {
    try {
      f(comm);
    } catch (const error& refusal) {
      texts[static_cast<std::size_t>(comm.rank())] = refusal.what();
    }
  });
  return texts;
}

void check_told(const Chosen& one, const Chosen& other, const std::string& field) {
  const auto texts = told([&](auto& comm) {
    RingAttention attention{comm, shape_of(sequence), contiguous{64}};
    const Shard<default_kernel<float>> mine(sequence, attention.tokens());
    attention.forward(mine.q, mine.k, mine.v, mine.out, mine.lse, comm.rank() == 0 ? one : other);
  });
  for (const std::string& text : texts) CHECK(text.find("ranks disagree on " + field) == 0);
}

}  // namespace

TEST_CASE("ranks whose masks, scores or dropout have other parameters all say so") {
  const Documents one{{0, 9, 64}}, other{{0, 10, 64}};
  check_told(chosen(window{3, 0}), chosen(window{4, 0}), "parameters of the mask");
  check_told(chosen(window{3, 0}), chosen(chunked{3}), "parameters of the mask");
  check_told(chosen(one.mask()), chosen(other.mask()), "parameters of the mask");
  check_told(chosen(causal{}, {30, 0}), chosen(causal{}, {31, 0}), "parameters of the score function");
  check_told(chosen(causal{}, {0, 2}), chosen(causal{}, {0, 0}), "parameters of the score function");
  check_told(chosen(causal{}, {}, {0.1, 1}), chosen(causal{}, {}, {0.1, 2}), "parameters of the dropout");
  check_told(chosen(causal{}, {}, {0.1, 1}), chosen(causal{}, {}, {0.2, 1}), "parameters of the dropout");
}

TEST_CASE("ranks whose shards differ though lengths are equal all say so") {
  const Documents documents{{0, 3, 10, 11, 40, 64}};
  const auto texts = told([&](auto& comm) {
    const auto sharding = comm.rank() == 0 ? balanced(64, 2, causal{}) : balanced(64, 2, documents.mask());
    RingAttention{comm, shape_of(sequence), sharding};
  });
  for (const std::string& text : texts) CHECK(text.find("ranks disagree on shards") == 0);
}

TEST_CASE("reproducible gradients of what is learned are refused") {
  const auto texts = told([&](auto& comm) {
    ReproducibleAttention attention{comm, shape_of(sequence), striped_blocks{64, 16}, default_kernel<float>{}, 16};
    const Shard<default_kernel<float>> mine(sequence, attention.tokens());
    std::vector<float> table(6), grad_table(6);
    attention.backward(mine.q, mine.k, mine.v, mine.out, mine.lse, mine.grad_out, mine.grad_q, mine.grad_k, mine.grad_v,
                       Problem{full{}, relative_bias<float>{table.data(), 1, grad_table.data()}});
  });
  for (const std::string& text : texts) CHECK(text.find("reproducible: gradients of sinks") == 0);
}

}  // namespace rondo::test
