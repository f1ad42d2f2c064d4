/// \file
/// Scores, sinks and dropout against the oracle: one by one and together, over kernels, rings and shardings.
#include <kernel/kernel_case.hpp>
#include <support/features.hpp>

#include "exact.hpp"

#include <rondo/mask/intervals.hpp>

#include <span>
#include <string>
#include <vector>

namespace rondo::test {
namespace {

constexpr Extents sequence{.batch = 2, .heads = 4, .kv_heads = 2, .head_dim = 16, .tokens = 101};

/// Masks that are held against their definitions in tests/mask.
struct Masked : intervals {
  bool expected(int b, int h, std::int64_t i, std::int64_t j) const { return rondo::allows(*this, b, h, i, j); }
};
using Features = FeatureProblem<float, Masked>;

/// Error of learned parameters' gradients, over what is allowed: the terms' rounding, that of float products of 16.
double parameter_error(std::span<const float> given, const std::vector<double>& needed) {
  double worst = 0;
  for (std::size_t i = 0; i < given.size(); ++i) {
    const double error = std::abs(static_cast<double>(given[i]) - needed[i]);
    if (!(error <= worst)) worst = error;
  }
  return worst / 4e-5;
}

struct Named {
  std::string name;
  softcap_alibi score;
  double bias;
  bool sinks;
  dropout drop;
};

const std::vector<Named>& cases() {
  static const std::vector<Named> all{{"nothing", {}, 0, false, {}},
                                      {"softcap", {.cap = 2}, 0, false, {}},
                                      {"alibi", {.heads = 4}, 0, false, {}},
                                      {"bias", {}, 1, false, {}},
                                      {"sinks", {}, 0, true, {}},
                                      {"dropout", {}, 0, false, {0.3, 12345678901234567u}},
                                      {"all", {2, 4}, 1, true, {0.2, 99}}};
  return all;
}

void check_parameters(const Exactness<float, Features>& exactness, const Learned<float>& learned) {
  const ExpectedScore score = exactness.problem().score.expected();
  std::vector<std::vector<double>> table(4, std::vector<double>(Learned<float>::width, 0.0));
  std::vector<double> sinks(4, 0.0);
  ExpectedExtras extras = oracle_extras(exactness.problem());
  extras.table_sums = &table;
  extras.sink_sums = &sinks;
  extras.score = &score;
  const auto sees = [&](int b, int h, std::int64_t i, std::int64_t j) {
    return exactness.problem().mask.expected(b, h, i, j);
  };
  plain_attention<double>(converted<double>(exactness.inputs()), sees, usual_scale(sequence), score, extras);
  std::vector<double> flat;
  for (const auto& row : table) flat.insert(flat.end(), row.begin(), row.end());
  CHECK(parameter_error(learned.grad_table, flat) <= 1);
  CHECK(parameter_error(learned.grad_logits, sinks) <= 1);
}

template <class Kernel>
void check_features(const std::vector<Ring>& rings) {
  for (const Named& one : cases()) {
    Learned<float> learned(one.bias, one.sinks);
    Masked mask;
    mask &= causal{};
    mask &= window{.left = 60};
    const Exactness<float, Features> exactness(sequence, learned.problem(mask, one.score, one.drop));
    for (const Ring& ring : rings) {
      // Threads of other ranks write their own copies.
      std::vector<Learned<float>> own(static_cast<std::size_t>(ring.ranks), learned);
      Results<double> results = empty_results<double>(sequence);
      in_process_group<typename Kernel::execution_space>(ring.ranks, {.deadline = Deadline{30}}).run([&](auto& comm) {
        auto& mine = own[static_cast<std::size_t>(comm.rank())];
        ring_rank(comm, exactness.inputs(), ring, mine.problem(mask, one.score, one.drop), Kernel{}, results, nullptr);
      });
      const ErrorRatios ratios = exactness.ratios(results);
      INFO(one.name << ", " << text(ring) << "\n" << ratios.text());
      note("float, " + one.name, ratios, text(ring));
      CHECK(ratios.of_promise() <= 1);
      for (const auto& mine : own) {
        check_parameters(exactness, mine);
        CHECK(mine.grad_table == own[0].grad_table);
        CHECK(mine.grad_logits == own[0].grad_logits);
      }
    }
  }
}

}  // namespace

TEST_CASE("softcap, ALiBi, a table of biases, sinks and dropout are as exact as promised over any ring") {
  check_features<default_kernel<float>>(
      {{1, Layout::contiguous, 4096}, {3, Layout::striped, 11}, {4, Layout::zigzag, 4096}, {5, Layout::contiguous, 8}});
}

TEST_CASE("the portable kernel gives the same features") {
  check_features<portable_kernel<float>>({{1, Layout::contiguous, 4096}, {3, Layout::striped, 11}});
}

TEST_CASE("a feature that is a little different breaks the promise") {
  Masked mask;
  mask &= causal{};
  const Named right{"right", {2, 4}, 1, true, {0.2, 99}};
  Learned<float> learned(right.bias, right.sinks);
  const auto problem = learned.problem(mask, right.score, right.drop);
  const auto in = random_inputs<float>(sequence);
  std::vector<Learned<float>> own(3, learned);
  Results<double> results = empty_results<double>(sequence);
  in_process_group<>(3).run([&](auto& comm) {
    auto& mine = own[static_cast<std::size_t>(comm.rank())];
    const auto given = mine.problem(mask, right.score, right.drop);
    ring_rank(comm, in, Ring{3, Layout::striped, 11}, given, default_kernel<float>{}, results, nullptr);
  });
  const auto of_promise = [&](const Features& needed) {
    return Exactness<float, Features>(in, needed).ratios(results).of_promise();
  };
  CHECK(of_promise(problem) <= 1);
  auto wrong = problem;
  wrong.dropout.seed = 100;
  CHECK_FALSE(of_promise(wrong) <= 1);
  wrong = problem;
  wrong.dropout.probability = 0.201;
  CHECK_FALSE(of_promise(wrong) <= 1);
  wrong = problem;
  wrong.score.first.cap = 2.001;
  CHECK_FALSE(of_promise(wrong) <= 1);
  wrong = problem;
  wrong.score.first.heads = 0;
  CHECK_FALSE(of_promise(wrong) <= 1);
  Learned<float> other = learned;
  other.table[20] += 1e-3f;  // one distance of one head, eight tokens back
  CHECK_FALSE(of_promise(other.problem(mask, right.score, right.drop)) <= 1);
  other = learned;
  other.logits[2] += 1e-3f;
  CHECK_FALSE(of_promise(other.problem(mask, right.score, right.drop)) <= 1);
}

}  // namespace rondo::test
