/// \file
/// The masks one by one against their definitions, over all small runs.
#include "rules.hpp"

#include <rondo/mask/chunked.hpp>
#include <rondo/mask/document.hpp>
#include <rondo/mask/padding.hpp>
#include <rondo/mask/prefix.hpp>
#include <rondo/mask/window.hpp>

#include <catch2/catch_test_macros.hpp>

#include <cstdint>
#include <limits>
#include <random>
#include <string>
#include <vector>

namespace {

using namespace mask_test;
using rondo::chunked;
using rondo::Documents;
using rondo::Lengths;
using rondo::prefix;
using rondo::window;

constexpr std::int64_t positions_end = 40;

const std::vector<Run>& runs() {
  static const auto all = small_runs(7, 4, 5);
  return all;
}

bool of_equal_stride(const Run& queries, const Run& keys) { return queries.stride == keys.stride; }
bool of_stride_1(const Run& queries, const Run& keys) { return queries.stride == 1 && keys.stride == 1; }
bool any(const Run&, const Run&) { return true; }

TEST_CASE("A window is what its definition says, and its coverage exact on runs of equal stride") {
  for (const std::int64_t left : {0, 1, 2, 5, 30}) {
    for (const std::int64_t right : {0, 1, 3, 40}) {
      const auto rule = [=](std::int64_t i, std::int64_t j) { return i - left <= j && j <= i + right; };
      check_mask(window{left, right}, rule, runs(), of_equal_stride, positions_end);
    }
  }
  const auto back = [](std::int64_t i, std::int64_t j) { return j >= i - 3; };
  check_mask(window{.left = 3}, back, runs(), any, positions_end);
  const auto ahead = [](std::int64_t i, std::int64_t j) { return j <= i + 2; };
  check_mask(window{.right = 2}, ahead, runs(), any, positions_end);
}

TEST_CASE("A prefix is what its definition says, and its coverage exact on any runs") {
  for (const std::int64_t length : {0, 1, 6, 13, 100}) {
    const auto rule = [=](std::int64_t i, std::int64_t j) { return j <= i || j < length; };
    check_mask(prefix{length}, rule, runs(), any, positions_end);
  }
}

TEST_CASE("Chunks are what their definition says, and their coverage exact on runs of stride 1") {
  for (const std::int64_t length : {1, 2, 5, 8, 100}) {
    const auto rule = [=](std::int64_t i, std::int64_t j) { return i / length == j / length; };
    check_mask(chunked{length}, rule, runs(), of_stride_1, positions_end);
  }
}

TEST_CASE("Documents are what their ids say, and their coverage exact on runs of stride 1") {
  std::mt19937_64 random(3);
  for (const auto& lengths : {std::vector<std::int64_t>{40}, {1, 2, 3, 34}, {5, 0, 0, 8, 1, 26}, {0, 20, 19, 1, 0}}) {
    std::vector<std::int64_t> offsets{0}, id;
    for (std::size_t d = 0; d < lengths.size(); ++d) {
      offsets.push_back(offsets.back() + lengths[d]);
      id.insert(id.end(), static_cast<std::size_t>(lengths[d]), static_cast<std::int64_t>(d));
    }
    const Documents documents{offsets};
    const auto rule = [&](std::int64_t i, std::int64_t j) {
      return id[static_cast<std::size_t>(i)] == id[static_cast<std::size_t>(j)];
    };
    check_mask(documents.mask(), rule, runs(), of_stride_1, positions_end);
  }
}

TEST_CASE("Every batch entry has its own documents and its own padding") {
  const auto documents = Documents<>::per_batch({{0, 10, 40}, {0, 3, 25, 40}});
  const auto first_document = [](std::int64_t i, std::int64_t j) { return (i < 10) == (j < 10); };
  const auto second_document = [](std::int64_t i, std::int64_t j) {
    return (i < 3 ? 0 : i < 25 ? 1 : 2) == (j < 3 ? 0 : j < 25 ? 1 : 2);
  };
  check_mask(documents.mask(), first_document, runs(), of_stride_1, positions_end, 0);
  check_mask(documents.mask(), second_document, runs(), of_stride_1, positions_end, 1);

  const Lengths lengths{{0, 9, 40}};
  for (int b = 0; b < 3; ++b) {
    const std::int64_t length = b == 0 ? 0 : b == 1 ? 9 : 40;
    check_mask(
        lengths.mask(), [=](std::int64_t, std::int64_t j) { return j < length; }, runs(), any, positions_end, b);
  }
}

TEST_CASE("The work of windows, prefixes, chunks and documents of a billion tokens has no overflow") {
  constexpr std::int32_t n = 2'000'000'000;
  const Run all{0, 1, n};
  constexpr std::int64_t triangle = std::int64_t{n} * (std::int64_t{n} + 1) / 2;
  CHECK(window{.right = 0}.work(0, 0, all, all) == triangle);
  CHECK(window{}.work(0, 0, all, all) == std::int64_t{n} * n);
  CHECK(window{9, 0}.work(0, 0, all, all) == std::int64_t{n} * 10 - 45);
  CHECK(prefix{10}.work(0, 0, all, all) == triangle + 45);
  CHECK(chunked{1'000'000}.work(0, 0, all, all) == std::int64_t{n} * 1'000'000);
  const Documents documents{{0, n / 2, n}};
  CHECK(documents.mask().work(0, 0, all, all) == std::int64_t{n} / 2 * n);
  CHECK(window{}.keys(0, 0, std::int64_t{1} << 40).hi > std::int64_t{1} << 60);
}

TEST_CASE("Offsets come from ids that do not fall") {
  const std::vector<std::int32_t> ids{0, 0, 3, 3, 3, 7};
  CHECK(rondo::document_offsets(std::span<const std::int32_t>(ids)) == std::vector<std::int64_t>{0, 2, 5, 6});
  const std::vector<std::int32_t> none;
  CHECK(rondo::document_offsets(std::span<const std::int32_t>(none)) == std::vector<std::int64_t>{0, 0});
  const std::vector<std::int32_t> falling{0, 2, 1};
  CHECK(refusal_of([&] { rondo::document_offsets(std::span<const std::int32_t>(falling)); }) ==
        "document ids: token 2 has 1, the one before 2: ids must not fall along the sequence");
}

TEST_CASE("Masks refuse parameters that make no sense, saying what was given and what is needed") {
  const auto refusal = [](const auto& mask) { return refusal_of([&] { mask.check(2, 40, 50); }); };
  CHECK(refusal(window{-1, 2}) == "window: left is -1, it must be at least 0 (window::unlimited for no limit)");
  CHECK(refusal(window{1, -2}) == "window: right is -2, it must be at least 0 (window::unlimited for no limit)");
  CHECK(refusal(window{1, 2}).empty());
  CHECK(refusal(prefix{-1}) == "prefix: the length is -1, it must be at least 0");
  CHECK(refusal(chunked{0}) == "chunked: the length is 0, it must be at least 1");
  CHECK(refusal(rondo::document{}) == "document: there are no offsets, Documents makes this mask");
  const Documents documents{{0, 40}};
  CHECK(refusal(documents.mask()) ==
        "document: the offsets of batch entry 0 end at 40, there are 40 queries and 50 keys");
  const auto three = Documents<>::per_batch({{0, 40}, {0, 40}, {0, 40}});
  CHECK(refusal(three.mask()) == "document: offsets are given for 3 batch entries, there are 2");
  const Lengths one{{4}};
  CHECK(refusal(one.mask()) == "padding: 1 lengths are given, the batch has 2");
  const Lengths long_ones{{4, 51}};
  CHECK(refusal(long_ones.mask()) == "padding: the length of batch entry 1 is 51, there are 50 keys");
  CHECK(refusal_of([] { Lengths<>{{4, -1}}; }) == "lengths: that of batch entry 1 is -1, it must be at least 0");
  CHECK(refusal_of([] {
          Documents<>{std::vector<std::int64_t>{1, 40}};
        }) == "documents: list 0 has 2 offsets from 1, it must have at least 2, the first of them 0");
  CHECK(refusal_of([] {
          Documents<>::per_batch({{0, 4}, {}});
        }) == "documents: list 1 has 0 offsets, it must have at least 2, the first of them 0");
  CHECK(refusal_of([] {
          Documents<>{std::vector<std::int64_t>{0, 5, 4}};
        }) == "documents: in list 0 offset 2 is 4, the one before 5: offsets must not fall");
  CHECK(refusal_of([] { Documents<>::per_batch({}); }) == "documents: 0 lists of offsets, there must be at least 1");
}

TEST_CASE("Masks of different parameters have different fingerprints") {
  CHECK(window{1, 2}.fingerprint() != window{2, 1}.fingerprint());
  CHECK(window{1}.fingerprint() != window{2}.fingerprint());
  CHECK(prefix{1}.fingerprint() != prefix{2}.fingerprint());
  CHECK(chunked{1}.fingerprint() != chunked{2}.fingerprint());
  const Documents a{{0, 4, 9}}, b{{0, 5, 9}};
  CHECK(a.mask().fingerprint() != b.mask().fingerprint());
  CHECK(Documents<>::per_batch({{0, 4}, {0, 4}}).mask().fingerprint() !=
        Documents<>::per_batch({{0, 4}}).mask().fingerprint());
  CHECK(Lengths<>{{4, 5}}.mask().fingerprint() != Lengths<>{{5, 4}}.mask().fingerprint());
  CHECK(window{3, 4}.fingerprint() >= 0);
}

}  // namespace
