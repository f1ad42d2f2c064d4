/// \file
/// The ring that leaves out what a mask leaves out, as data: who holds what when, followed rank by rank.
#include <rondo/mask/algebra.hpp>
#include <rondo/mask/chunked.hpp>
#include <rondo/mask/document.hpp>
#include <rondo/schedule/skipping_ring.hpp>
#include <rondo/sharding/contiguous.hpp>
#include <rondo/sharding/striped.hpp>
#include <rondo/sharding/zigzag.hpp>

#include <catch2/catch_test_macros.hpp>

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

namespace {

using rondo::Coverage;
using rondo::Part;
using rondo::Piece;
using rondo::ShardTable;
using rondo::schedule::QueryShare;
using rondo::schedule::SkippingRing;
using rondo::schedule::Step;

/// A piece of somebody's.
using Key = std::pair<int, std::int64_t>;

/// Pairs of a rank's queries and a piece that have an allowed pair, asked one by one.
template <class M>
bool sees(const ShardTable& table, int rank, const Piece& keys, const M& mask) {
  bool some = false;
  table.for_each_token(rank, [&](std::int64_t i, std::int64_t) {
    for (const Part& part : keys.parts()) {
      for (int j = 0; j < part.tokens.count; ++j) some = some || rondo::allows(mask, 0, 0, i, part.tokens.at(j));
    }
  });
  return some;
}

struct Sent {
  std::int64_t pieces = 0;
  std::int64_t gradients = 0;
};

/// Follows all ranks through forward and backward; says how many messages there were.
template <class S, class M>
Sent follow(const S& sharding, int ranks, std::int64_t chunk, const M& mask) {
  const ShardTable table(sharding, ranks);
  std::vector<SkippingRing> rings(static_cast<std::size_t>(ranks));
  for (int r = 0; r < ranks; ++r) rings[static_cast<std::size_t>(r)].update(r, table, table, mask, 1, 1, chunk);
  const auto ring = [&](int r) -> const SkippingRing& { return rings[static_cast<std::size_t>(r)]; };
  const auto keys = [&](const Key& key) { return table.piece(key.first, key.second, chunk); };
  Sent sent;
  for (const bool backward : {false, true}) {
    const std::int64_t steps = backward ? ring(0).backward_steps() : ring(0).forward_steps();
    std::vector<Key> held(static_cast<std::size_t>(ranks), Key{-1, -1});
    std::vector<std::map<Key, int>> halves(static_cast<std::size_t>(ranks));  // of the queries, computed with a piece
    std::vector<std::set<Key>> home(static_cast<std::size_t>(ranks));         // (visitor, own piece) gradients received
    std::set<Key> complete;
    std::vector<Key> computed(static_cast<std::size_t>(ranks), Key{-1, -1});  // in the step before, of others
    for (std::int64_t index = 0; index < steps; ++index) {
      std::vector<Key> arriving(static_cast<std::size_t>(ranks), Key{-1, -1});
      std::map<std::pair<int, int>, Key> pieces, gradients;
      std::vector<Step> step;
      for (int r = 0; r < ranks; ++r) step.push_back(backward ? ring(r).backward(index) : ring(r).forward(index));
      for (int r = 0; r < ranks; ++r) {
        const Step& s = step[static_cast<std::size_t>(r)];
        Key& holds = held[static_cast<std::size_t>(r)];
        if (s.pack) holds = {r, s.piece};
        if (s.computes) REQUIRE((s.owner == r ? s.pack : holds == Key(s.owner, s.piece)));
        if (s.send_to >= 0) {
          REQUIRE(holds.first >= 0);
          pieces[{r, s.send_to}] = holds;
          sent.pieces += !backward;
        }
        if (s.gradient_to >= 0) {
          gradients[{r, s.gradient_to}] = computed[static_cast<std::size_t>(r)];
          ++sent.gradients;
        }
      }
      std::size_t received = 0, received_gradients = 0;
      for (int r = 0; r < ranks; ++r) {
        const Step& s = step[static_cast<std::size_t>(r)];
        if (s.receive_from >= 0) {
          REQUIRE(pieces.contains({s.receive_from, r}));
          arriving[static_cast<std::size_t>(r)] = pieces.at({s.receive_from, r});
          REQUIRE(arriving[static_cast<std::size_t>(r)] == Key(s.incoming_owner, s.piece));
          ++received;
        }
        if (s.gradient_from >= 0) {
          REQUIRE(gradients.contains({s.gradient_from, r}));
          const Key key = gradients.at({s.gradient_from, r});
          REQUIRE(key.first == r);
          REQUIRE(!complete.contains(key));
          REQUIRE(home[static_cast<std::size_t>(r)].insert({s.gradient_from, key.second}).second);
          ++received_gradients;
        }
        if (s.completes) complete.insert({r, index == steps - 1 ? s.piece : s.piece - 1});
        const Key with{s.owner, s.piece};
        if (s.computes) halves[static_cast<std::size_t>(r)][with] += s.queries == QueryShare::all ? 2 : 1;
        computed[static_cast<std::size_t>(r)] = s.computes && s.owner != r ? with : Key{-1, -1};
      }
      REQUIRE(received == pieces.size());
      REQUIRE(received_gradients == gradients.size());
      for (int r = 0; r < ranks; ++r) held[static_cast<std::size_t>(r)] = arriving[static_cast<std::size_t>(r)];
    }
    for (int r = 0; r < ranks; ++r) {
      for (int owner = 0; owner < ranks; ++owner) {
        for (std::int64_t piece = 0; piece < table.pieces(owner, chunk); ++piece) {
          const Key key{owner, piece};
          const int done =
              halves[static_cast<std::size_t>(r)].contains(key) ? halves[static_cast<std::size_t>(r)].at(key) : 0;
          INFO("rank " << r << ", piece " << piece << " of " << owner << (backward ? ", backward" : ", forward"));
          if (sees(table, r, keys(key), mask) || owner == r) REQUIRE(done == 2);
          REQUIRE((done == 0 || done == 2));
          if (backward && owner != r)
            REQUIRE(home[static_cast<std::size_t>(owner)].contains({r, piece}) == (done == 2));
          if (backward) REQUIRE(complete.contains(key));
        }
      }
    }
  }
  return sent;
}

TEST_CASE("Every rank computes once with all it needs, holds it then, and every gradient comes home") {
  const rondo::Documents documents{{0, 5, 40, 41, 90, 96}};
  for (const int ranks : {2, 3, 5, 8}) {
    for (const std::int64_t tokens : {96, 61, 7, 3}) {
      for (const std::int64_t chunk : {100, 5}) {
        INFO(ranks << " ranks, " << tokens << " tokens, chunk " << chunk);
        const auto all = [&](const auto& mask) {
          follow(rondo::contiguous{tokens}, ranks, chunk, mask);
          follow(rondo::striped{tokens}, ranks, chunk, mask);
          follow(rondo::zigzag{tokens}, ranks, chunk, mask);
        };
        all(rondo::causal{});
        all(rondo::window{6, 0});
        all(rondo::window{0, 6});
        all(rondo::window{14, 9});
        all(rondo::chunked{20});
        all(!rondo::window{20, 20});
        if (tokens == 96) all(documents.mask());
      }
    }
  }
}

TEST_CASE("A window over contiguous shards sends each piece to its neighbours in reach and no further") {
  constexpr int ranks = 8;
  const rondo::contiguous sharding{800};
  // Looking back 150 tokens, rank r needs those of r - 1 and r - 2; there are 7 and 6 such pairs.
  CHECK(follow(sharding, ranks, 1000, rondo::window{150, 0}).pieces == 13);
  CHECK(follow(sharding, ranks, 1000, rondo::window{150, 0}).gradients == 13);
  CHECK(follow(sharding, ranks, 1000, rondo::window{0, 150}).pieces == 13);
  CHECK(follow(sharding, ranks, 1000, rondo::window{150, 50}).pieces == 20);
  CHECK(follow(sharding, ranks, 1000, rondo::causal{}).pieces == 28);
  CHECK(follow(sharding, ranks, 1000, rondo::chunked{200}).pieces == 8);
  CHECK(follow(sharding, ranks, 50, rondo::window{50, 0}).pieces == 7);  // the upper half of each shard
}

TEST_CASE("Where every rank needs every piece, that is known") {
  const auto all = [](const auto& sharding, const auto& mask) {
    SkippingRing ring;
    ring.update(0, ShardTable(sharding, 4), ShardTable(sharding, 4), mask, 1, 1, 1000);
    return ring.needs().all();
  };
  CHECK(all(rondo::striped{100}, rondo::causal{}));
  CHECK(all(rondo::zigzag{100}, rondo::full{}));
  CHECK(all(rondo::contiguous{100}, rondo::full{}));
  CHECK(all(rondo::contiguous{3}, rondo::full{}));
  CHECK(all(rondo::striped{100}, rondo::window{4, 0}));
  CHECK_FALSE(all(rondo::striped{100}, rondo::window{2, 0}));
  CHECK_FALSE(all(rondo::contiguous{100}, rondo::causal{}));
  CHECK(all(rondo::zigzag{100}, rondo::causal{}));  // of the early run: pieces have of both
}

}  // namespace
