/// \file
/// What a mask leaves out is not sent: bytes counted by a communicator, against the pairs of shards that have something to see.
#include <support/generators.hpp>
#include <support/ring_case.hpp>

#include <rondo/comm/counting.hpp>
#include <rondo/rondo.hpp>

#include <catch2/catch_test_macros.hpp>

#include <cstdint>
#include <vector>

namespace rondo::test {
namespace {

constexpr int ranks = 8;
constexpr std::int64_t tokens = 320;
constexpr Extents sequence{.batch = 1, .heads = 2, .kv_heads = 1, .head_dim = 8, .tokens = tokens};
using Kernel = default_kernel<float>;

struct Bytes {
  std::int64_t forward = 0;
  std::int64_t backward = 0;
  std::int64_t by_attention = 0;  ///< both, as RingAttention reports them
};

/// Sent and received by all ranks, as counted.
Bytes counted(Layout layout, const intervals& mask) {
  std::vector<Bytes> sent(ranks);
  in_process_group<>(ranks).run([&](auto& group_comm) {
    counting comm{group_comm.split(0, group_comm.rank())};
    RingAttention attention{comm, shape_of(sequence), sharding_of(layout, tokens), Kernel{}, Options{.chunk = 16}};
    const Shard<Kernel> mine(sequence, attention.tokens());
    for (const auto& input : {mine.q, mine.k, mine.v, mine.grad_out}) Kokkos::deep_copy(input, 0.5f);
    Bytes& bytes = sent[static_cast<std::size_t>(comm.rank())];
    attention.forward(mine.q, mine.k, mine.v, mine.out, mine.lse, Problem{mask});
    bytes.forward = comm.traffic().bytes_sent;
    attention.backward(mine.q, mine.k, mine.v, mine.out, mine.lse, mine.grad_out, mine.grad_q, mine.grad_k, mine.grad_v,
                       Problem{mask});
    bytes.backward = comm.traffic().bytes_sent - bytes.forward;
    bytes.by_attention = attention.statistics().bytes_sent;
  });
  Bytes all;
  for (const Bytes& one : sent) {
    CHECK(one.by_attention == one.forward + one.backward);
    all = {all.forward + one.forward, all.backward + one.backward, all.by_attention + one.by_attention};
  }
  return all;
}

/// What has to be sent: each piece of 16 tokens to every rank that sees one of its keys, its gradient back.
Bytes needed(Layout layout, const intervals& mask) {
  const ShardTable table(sharding_of(layout, tokens), ranks);
  Bytes all;
  for (int owner = 0; owner < ranks; ++owner) {
    for (std::int64_t index = 0; index < table.pieces(owner, 16); ++index) {
      const Run keys = table.piece(owner, index, 16).parts()[0].tokens;
      for (int rank = 0; rank < ranks; ++rank) {
        bool sees = false;
        table.for_each_token(rank, [&](std::int64_t i, std::int64_t) {
          for (int j = 0; j < keys.count; ++j) sees = sees || rondo::allows(mask, 0, 0, i, keys.at(j));
        });
        if (!sees || rank == owner) continue;
        all.forward += static_cast<std::int64_t>(Kernel{}.wire_bytes(Pass::forward, shape_of(sequence), keys.count));
        all.backward += static_cast<std::int64_t>(Kernel{}.wire_bytes(Pass::backward, shape_of(sequence), keys.count)) +
                        std::int64_t{2} * keys.count * sequence.head_dim * static_cast<std::int64_t>(sizeof(float));
      }
    }
  }
  return all;
}

}  // namespace

TEST_CASE("windows and documents over contiguous shards send what is needed and no byte more") {
  const Documents documents{{0, 30, 110, 115, tokens}};
  const Bytes everything = counted(Layout::contiguous, full{});
  for (const intervals& mask : {intervals{window{50, 0}}, intervals{window{0, 50}}, intervals{window{30, 70}},
                                intervals{causal{}}, intervals{chunked{64}}, intervals{documents.mask()}}) {
    const Bytes sent = counted(Layout::contiguous, mask);
    const Bytes least = needed(Layout::contiguous, mask);
    CHECK(sent.forward == least.forward);
    CHECK(sent.backward == least.backward);
    CHECK(sent.forward < everything.forward);
  }
}

TEST_CASE("a window sends its reach over contiguous shards, and over striped ones everything") {
  // Shards of 40 tokens in pieces of 16, 16 and 8: the last two of 7 shards go to one neighbour.
  const auto wire = [](std::int64_t count) {
    return static_cast<std::int64_t>(Kernel{}.wire_bytes(Pass::forward, shape_of(sequence), count));
  };
  CHECK(counted(Layout::contiguous, window{15, 0}).forward == 7 * (wire(16) + wire(8)));
  CHECK(counted(Layout::striped, window{15, 0}).forward == counted(Layout::striped, full{}).forward);
}

}  // namespace rondo::test
