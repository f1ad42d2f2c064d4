/// \file
/// Bad input is refused before anything is sent, on every rank, in words and numbers.
#include <rondo/rondo.hpp>

#include <Kokkos_Core.hpp>
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <limits>
#include <string>
#include <vector>

namespace rondo::test {
namespace {

using Catch::Matchers::ContainsSubstring;
using Comm = in_process_communicator<>;

constexpr Shape shape{.batch = 2, .heads = 4, .kv_heads = 2, .head_dim = 8};
constexpr std::int64_t total = 10;

/// What a rank's call ended with.
struct Outcome {
  enum class Kind { none, shape, argument, agreement, peer, timeout, other };
  Kind kind = Kind::none;
  std::string what;
  int rank = -1;  ///< the rank that a peer_failed names
};
using Kind = Outcome::Kind;

Outcome outcome_of(const std::function<void()>& work) {
  try {
    work();
    return {};
  } catch (const shape_error& e) {
    return {Kind::shape, e.what()};
  } catch (const argument_error& e) {
    return {Kind::argument, e.what()};
  } catch (const agreement_error& e) {
    return {Kind::agreement, e.what()};
  } catch (const peer_failed& e) {
    return {Kind::peer, e.what(), e.rank()};
  } catch (const timeout_error& e) {
    return {Kind::timeout, e.what()};
  } catch (const std::exception& e) {
    return {Kind::other, e.what()};
  }
}

/// Runs work(comm) on some ranks (which make no assertions: Catch2's are for one thread at a time) and says what each ended with. Nothing may take longer than a few seconds.
template <class Work>
std::vector<Outcome> outcomes(int ranks, const Work& work) {
  std::vector<Outcome> all(static_cast<std::size_t>(ranks));
  in_process_group<>(ranks, {.deadline = Deadline{5}}).run([&](Comm& comm) {
    all[static_cast<std::size_t>(comm.rank())] = outcome_of([&] { work(comm); });
  });
  return all;
}

/// A rank's tensors; every extent may be set wrong before they are made.
template <class T>
struct Tensors {
  using A = accumulate_t<T>;
  using Four = std::array<std::int64_t, 4>;
  Four q, k, v, out, grad_out, grad_q, grad_k, grad_v;
  std::array<std::int64_t, 3> lse;

  explicit Tensors(std::int64_t tokens)
      : q{shape.batch, tokens, shape.heads, shape.head_dim},
        k{shape.batch, tokens, shape.kv_heads, shape.head_dim},
        v(k),
        out(q),
        grad_out(q),
        grad_q(q),
        grad_k(k),
        grad_v(k),
        lse{shape.batch, shape.heads, tokens} {}

  static auto make(const Four& e) { return Kokkos::View<T****, Kokkos::LayoutRight>("tensor", e[0], e[1], e[2], e[3]); }
  auto make_lse() const { return Kokkos::View<A***, Kokkos::LayoutRight>("lse", lse[0], lse[1], lse[2]); }

  template <class Attention, class P = Problem<>>
  void forward(Attention& attention, const P& problem = {}) const {
    attention.forward(make(q), make(k), make(v), make(out), make_lse(), problem);
  }
  template <class Attention, class P = Problem<>>
  void backward(Attention& attention, const P& problem = {}) const {
    attention.backward(make(q), make(k), make(v), make(out), make_lse(), make(grad_out), make(grad_q), make(grad_k),
                       make(grad_v), problem);
  }
};

auto attention_on(Comm& comm) { return RingAttention{comm, shape, contiguous{total}}; }

/// Rank 1 of 3 sets one tensor wrong and gets a shape_error with this message; the others hear of rank 1.
void check_wrong_shape(const char* operation, const std::function<void(Tensors<float>&)>& spoil,
                       const std::string& message) {
  INFO(operation << ": " << message);
  const auto all = outcomes(3, [&](Comm& comm) {
    auto attention = attention_on(comm);
    Tensors<float> tensors(attention.tokens());
    if (comm.rank() == 1) spoil(tensors);
    operation[0] == 'f' ? tensors.forward(attention) : tensors.backward(attention);
  });
  CHECK(all[1].kind == Kind::shape);
  CHECK_THAT(all[1].what, ContainsSubstring(message));
  for (const int rank : {0, 2}) {
    const Outcome& outcome = all[static_cast<std::size_t>(rank)];
    CHECK(outcome.kind == Kind::peer);
    CHECK(outcome.rank == 1);
    CHECK_THAT(outcome.what, ContainsSubstring("rank 1 refused its arguments; nothing was sent"));
  }
}

void check_shape_refused(const Shape& refused, const std::string& message) {
  const auto all = outcomes(2, [&](Comm& comm) { RingAttention{comm, refused, contiguous{total}}; });
  for (const Outcome& outcome : all) {
    CHECK(outcome.kind == Kind::shape);
    CHECK_THAT(outcome.what, ContainsSubstring(message));
  }
}

/// Every rank throws agreement_error with the message, which names the field, the values and the ranks.
void check_disagreement(const std::vector<Outcome>& all, const std::string& message) {
  for (const Outcome& outcome : all) {
    CHECK(outcome.kind == Kind::agreement);
    CHECK_THAT(outcome.what, ContainsSubstring("ranks disagree on " + message));
    CHECK_THAT(outcome.what, ContainsSubstring("nothing was sent"));
  }
}

}  // namespace

TEST_CASE("a shape that makes no sense is refused by name and number") {
  check_shape_refused({.batch = 0, .heads = 4, .head_dim = 8}, "batch is 0, it must be at least 1");
  check_shape_refused({.batch = 1, .heads = 0, .head_dim = 8}, "heads is 0, it must be at least 1");
  check_shape_refused({.batch = 1, .heads = 4, .kv_heads = -2, .head_dim = 8}, "kv_heads is -2, it must be at least 1");
  check_shape_refused({.batch = 1, .heads = 4, .head_dim = 0}, "head_dim is 0, it must be at least 1");
  check_shape_refused({.batch = 1, .heads = 4, .head_dim = 8, .value_dim = -3},
                      "value_dim is -3, it must be at least 1");
  check_shape_refused({.batch = 1, .heads = 4, .kv_heads = 3, .head_dim = 8},
                      "heads is 4, kv_heads is 3: heads must be a multiple of kv_heads");
}

TEST_CASE("a chunk of no tokens is refused") {
  for (const std::int64_t chunk : {0, -4}) {
    const auto all =
        outcomes(2, [&](Comm& comm) { RingAttention(comm, shape, contiguous{total}, {}, Options{.chunk = chunk}); });
    for (const Outcome& outcome : all) {
      CHECK(outcome.kind == Kind::argument);
      CHECK_THAT(outcome.what, ContainsSubstring("chunk is " + std::to_string(chunk) + ", it must be at least 1"));
    }
  }
}

TEST_CASE("a negative number of tokens is refused") {
  const auto all = outcomes(2, [&](Comm& comm) { RingAttention{comm, shape, striped{-3}}; });
  for (const Outcome& outcome : all) {
    CHECK(outcome.kind == Kind::argument);
    CHECK_THAT(outcome.what, ContainsSubstring("a sequence of -3 tokens"));
  }
}

TEST_CASE(
    "a tensor of the wrong shape is refused with the shape given and the shape needed, and the others hear of it") {
  // 10 tokens over 3 ranks: rank 1 holds 3.
  using T = Tensors<float>;
  check_wrong_shape(
      "forward", [](T& t) { t.q[3] = 9; },
      "q has shape [2, 3, 4, 9], needed is [batch, sequence, heads, head_dim] = [2, 3, 4, 8]");
  check_wrong_shape(
      "forward", [](T& t) { t.k[2] = 4; },
      "k has shape [2, 3, 4, 8], needed is [batch, sequence, kv_heads, head_dim] = [2, 3, 2, 8]");
  check_wrong_shape(
      "forward", [](T& t) { t.v[1] = 4; },
      "v has shape [2, 4, 2, 8], needed is [batch, sequence, kv_heads, value_dim] = [2, 3, 2, 8]");
  check_wrong_shape(
      "forward", [](T& t) { t.out[0] = 1; },
      "out has shape [1, 3, 4, 8], needed is [batch, sequence, heads, value_dim] = [2, 3, 4, 8]");
  check_wrong_shape(
      "forward", [](T& t) { t.lse[2] = 0; }, "lse has shape [2, 4, 0], needed is [batch, heads, sequence] = [2, 4, 3]");
  check_wrong_shape(
      "backward", [](T& t) { t.q[1] = 2; }, "q has shape [2, 2, 4, 8], needed is");
  check_wrong_shape(
      "backward", [](T& t) { t.k[3] = 1; }, "k has shape [2, 3, 2, 1], needed is");
  check_wrong_shape(
      "backward", [](T& t) { t.v[0] = 3; }, "v has shape [3, 3, 2, 8], needed is");
  check_wrong_shape(
      "backward", [](T& t) { t.out[2] = 2; }, "out has shape [2, 3, 2, 8], needed is");
  check_wrong_shape(
      "backward", [](T& t) { t.lse[1] = 3; }, "lse has shape [2, 3, 3], needed is");
  check_wrong_shape(
      "backward", [](T& t) { t.grad_out[1] = 4; }, "grad_out has shape [2, 4, 4, 8], needed is");
  check_wrong_shape(
      "backward", [](T& t) { t.grad_q[3] = 16; }, "grad_q has shape [2, 3, 4, 16], needed is");
  check_wrong_shape(
      "backward", [](T& t) { t.grad_k[2] = 4; }, "grad_k has shape [2, 3, 4, 8], needed is");
  check_wrong_shape(
      "backward", [](T& t) { t.grad_v[1] = 0; }, "grad_v has shape [2, 0, 2, 8], needed is");
}

TEST_CASE("an output that shares memory with another tensor is refused") {
  in_process_group<>(1).run([](Comm& comm) {
    auto attention = attention_on(comm);
    const Tensors<float> t(total);
    const auto q = t.make(t.q), k = t.make(t.k), v = t.make(t.v), out = t.make(t.out), grad_out = t.make(t.q),
               grad_q = t.make(t.q), grad_k = t.make(t.k), grad_v = t.make(t.k);
    const auto lse = t.make_lse();
    const auto check = [](const Outcome& outcome, const std::string& message) {
      CHECK(outcome.kind == Kind::argument);
      CHECK_THAT(outcome.what, ContainsSubstring(message));
    };
    check(outcome_of([&] { attention.forward(q, k, v, q, lse); }), "out shares memory with q");
    const auto lse_in_k = tensor(k.data(), {2L, 4L, 10L});
    check(outcome_of([&] { attention.forward(q, k, v, out, lse_in_k); }), "lse shares memory with k");
    check(outcome_of([&] { attention.backward(q, k, v, out, lse, grad_out, out, grad_k, grad_v); }),
          "grad_q shares memory with out");
    check(outcome_of([&] { attention.backward(q, k, v, out, lse, grad_out, grad_q, k, grad_v); }),
          "grad_k shares memory with k");
    check(outcome_of([&] { attention.backward(q, k, v, out, lse, grad_out, grad_q, grad_k, grad_k); }),
          "grad_k shares memory with grad_v");
    check(outcome_of([&] { attention.backward(q, k, v, out, lse, grad_q, grad_q, grad_k, grad_v); }),
          "grad_q shares memory with grad_out");
  });
}

TEST_CASE("an infinite scale is refused on every rank, and supported() says so beforehand") {
  const Problem<causal> problem{.scale = std::numeric_limits<double>::infinity()};
  in_process_group<>(1).run([&](Comm& comm) {
    const auto attention = attention_on(comm);
    const Support support = attention.supported(problem);
    CHECK_FALSE(support.ok);
    CHECK_THAT(support.reason, ContainsSubstring("the scale is infinite"));
    CHECK(attention.supported(Problem<causal>{}).ok);
  });
  const auto all = outcomes(2, [&](Comm& comm) {
    auto attention = attention_on(comm);
    Tensors<float>(attention.tokens()).forward(attention, problem);
  });
  for (const Outcome& outcome : all) {
    CHECK(outcome.kind == Kind::argument);
    CHECK_THAT(outcome.what, ContainsSubstring("the scale is infinite, it must be finite"));
  }
}

TEST_CASE("ranks made with different shapes all say which field, values and ranks differ") {
  const auto with = [&](auto change) {
    return outcomes(4, [&](Comm& comm) {
      Shape mine = shape;
      if (comm.rank() == 2) change(mine);
      RingAttention{comm, mine, contiguous{total}};
    });
  };
  check_disagreement(with([](Shape& s) { s.batch = 3; }), "batch: it is 2 on rank 0 and 3 on rank 2");
  check_disagreement(with([](Shape& s) { s.heads = 2; }), "heads: it is 2 on rank 2 and 4 on rank 0");
  check_disagreement(with([](Shape& s) { s.kv_heads = 0; }), "kv_heads: it is 2 on rank 0 and 4 on rank 2");
  check_disagreement(with([](Shape& s) { s.head_dim = 16; }), "head_dim: it is 8 on rank 0 and 16 on rank 2");
  check_disagreement(with([](Shape& s) { s.value_dim = 4; }), "value_dim: it is 4 on rank 2 and 8 on rank 0");
}

TEST_CASE("ranks made with different types, shardings, lengths or chunks all say so") {
  check_disagreement(outcomes(2,
                              [](Comm& comm) {
                                if (comm.rank() == 0) {
                                  RingAttention{comm, shape, contiguous{total}, default_kernel<float>{}};
                                } else {
                                  RingAttention{comm, shape, contiguous{total}, default_kernel<double>{}};
                                }
                              }),
                     "storage type (bits, 17 for float16): it is 32 on rank 0 and 64 on rank 1");
  check_disagreement(outcomes(2,
                              [](Comm& comm) {
                                if (comm.rank() == 0) {
                                  RingAttention{comm, shape, contiguous{total}, default_kernel<bfloat16>{}};
                                } else {
                                  RingAttention{comm, shape, contiguous{total}, default_kernel<float16>{}};
                                }
                              }),
                     "storage type (bits, 17 for float16): it is 16 on rank 0 and 17 on rank 1");
  check_disagreement(outcomes(2,
                              [](Comm& comm) {
                                if (comm.rank() == 0) {
                                  RingAttention{comm, shape, contiguous{total}};
                                } else {
                                  RingAttention{comm, shape, zigzag{total}};
                                }
                              }),
                     "kind of sharding");
  check_disagreement(outcomes(2,
                              [](Comm& comm) {
                                any_sharding sharding = striped{total};
                                if (comm.rank() == 0) sharding = zigzag{total};
                                RingAttention{comm, shape, sharding};
                              }),
                     "shards (a number over all runs)");
  check_disagreement(outcomes(3,
                              [](Comm& comm) {
                                RingAttention{comm, shape, contiguous{total + comm.rank()}};
                              }),
                     "total tokens: it is 10 on rank 0 and 12 on rank 2");
  check_disagreement(outcomes(2,
                              [](Comm& comm) {
                                RingAttention(comm, shape, contiguous{total}, {},
                                              Options{.chunk = comm.rank() == 0 ? 4 : 2});
                              }),
                     "chunk: it is 2 on rank 1 and 4 on rank 0");
}

TEST_CASE("ranks that call with different masks, scores, scales or operations all say so") {
  const auto call = [](auto of_rank_1, auto of_the_others) {
    return outcomes(3, [&](Comm& comm) {
      auto attention = attention_on(comm);
      const Tensors<float> tensors(attention.tokens());
      comm.rank() == 1 ? tensors.forward(attention, of_rank_1) : tensors.forward(attention, of_the_others);
    });
  };
  check_disagreement(call(Problem{full{}}, Problem{causal{}}), "kind of mask");
  check_disagreement(call(Problem{causal{}, softcap{30}}, Problem{causal{}}), "kind of score function");
  check_disagreement(call(Problem{causal{}, softcap{30}}, Problem{causal{}, softcap{31}}),
                     "parameters of the score function");
  check_disagreement(call(Problem{causal{}, unmodified{}, 0.5}, Problem{causal{}, unmodified{}, 0.25}), "scale");
  check_disagreement(call(Problem{causal{}, unmodified{}, 0.5}, Problem{causal{}, unmodified{}, -0.5}), "scale");
  check_disagreement(outcomes(3,
                              [](Comm& comm) {
                                auto attention = attention_on(comm);
                                const Tensors<float> tensors(attention.tokens());
                                comm.rank() == 1 ? tensors.backward(attention) : tensors.forward(attention);
                              }),
                     "operation: it is 1 on rank 0 and 2 on rank 1");
}

TEST_CASE("a rank made with bad arguments keeps its own error, and the others hear of that rank") {
  const auto all = outcomes(3, [](Comm& comm) {
    Shape mine = shape;
    if (comm.rank() == 2) mine.kv_heads = 3;
    RingAttention{comm, mine, contiguous{total}};
  });
  CHECK(all[2].kind == Kind::shape);
  CHECK_THAT(all[2].what, ContainsSubstring("heads is 4, kv_heads is 3"));
  for (const int rank : {0, 1}) {
    CHECK(all[static_cast<std::size_t>(rank)].kind == Kind::peer);
    CHECK(all[static_cast<std::size_t>(rank)].rank == 2);
  }
}

TEST_CASE("after a refusal the same RingAttention works on") {
  std::vector<Outcome> refused(2);
  const auto all = outcomes(2, [&](Comm& comm) {
    auto attention = attention_on(comm);
    Tensors<float> tensors(attention.tokens());
    tensors.q[3] = 9;
    refused[static_cast<std::size_t>(comm.rank())] = outcome_of([&] { tensors.forward(attention); });
    tensors.q[3] = 8;
    tensors.forward(attention, Problem{causal{}});
    tensors.backward(attention, Problem{causal{}});
  });
  for (const Outcome& outcome : refused) CHECK(outcome.kind == Kind::shape);
  for (const Outcome& outcome : all) CHECK(outcome.kind == Kind::none);
}

TEST_CASE("with the agreement check off a rank still refuses its own arguments") {
  in_process_group<>(1).run([](Comm& comm) {
    RingAttention attention(comm, shape, contiguous{total}, {}, Options{.check_agreement = false});
    Tensors<float> tensors(total);
    tensors.k[3] = 4;
    const Outcome outcome = outcome_of([&] { tensors.forward(attention); });
    CHECK(outcome.kind == Kind::shape);
    CHECK_THAT(outcome.what, ContainsSubstring("k has shape [2, 10, 2, 4]"));
  });
}

TEST_CASE("a rank that does not call gives the others an error within the deadline") {
  std::vector<Outcome> all(2);
  in_process_group<>(2, {.deadline = Deadline{0.3}}).run([&](Comm& comm) {
    auto attention = attention_on(comm);
    if (comm.rank() == 0) {
      all[0] = outcome_of([&] { Tensors<float>(attention.tokens()).forward(attention); });
    }
  });
  CHECK((all[0].kind == Kind::timeout || all[0].kind == Kind::peer));
  CHECK_THAT(all[0].what, ContainsSubstring("rank 1"));
}

}  // namespace rondo::test
