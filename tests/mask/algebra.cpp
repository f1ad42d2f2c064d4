/// \file
/// Masks joined by &, | and !, at compile time and at run time, against their definitions.
#include "rules.hpp"

#include <rondo/mask/algebra.hpp>
#include <rondo/mask/chunked.hpp>
#include <rondo/mask/document.hpp>
#include <rondo/mask/intervals.hpp>
#include <rondo/mask/padding.hpp>
#include <rondo/mask/pairs.hpp>
#include <rondo/mask/prefix.hpp>

#include <catch2/catch_test_macros.hpp>

#include <cstdint>
#include <random>
#include <type_traits>

namespace {

using namespace mask_test;
using rondo::causal;
using rondo::chunked;
using rondo::Documents;
using rondo::full;
using rondo::IntervalMask;
using rondo::intervals;
using rondo::Lengths;
using rondo::PairMask;
using rondo::prefix;
using rondo::window;

constexpr std::int64_t end_of_positions = 30;
const std::vector<Run>& runs() {
  static const auto all = small_runs(6, 3, 5);
  return all;
}
bool nowhere(const Run&, const Run&) { return false; }
bool of_equal_stride(const Run& queries, const Run& keys) { return queries.stride == keys.stride; }

constexpr auto is_before = [](std::int64_t i, std::int64_t j) { return j <= i; };
constexpr auto is_near = [](std::int64_t i, std::int64_t j) { return i - 4 <= j && j <= i + 2; };
constexpr auto in_block = [](std::int64_t i, std::int64_t j) { return i / 5 == j / 5; };
constexpr auto in_prefix = [](std::int64_t i, std::int64_t j) { return j <= i || j < 7; };
constexpr auto in_document = [](std::int64_t i, std::int64_t j) {
  return (i < 3 ? 0 : i < 11 ? 1 : 2) == (j < 3 ? 0 : j < 11 ? 1 : 2);
};
constexpr auto is_even = [](std::int64_t i, std::int64_t j) { return (i + j) % 2 == 0; };

const Documents<>& documents() {
  static const auto* all = new Documents<>{{0, 3, 11, 30}};  // never destroyed: that would be after Kokkos::finalize
  return *all;
}
constexpr rondo::pairs even{[](int, int, std::int64_t i, std::int64_t j) { return (i + j) % 2 == 0; }};

static_assert(std::is_same_v<decltype(causal{} & window{4}), window>);
static_assert(std::is_same_v<decltype(window{4} & window{5}), window>);
static_assert((causal{} & window{4, 9}).right == 0 && (window{4, 9} & causal{}).left == 4);
static_assert(IntervalMask<decltype(causal{} & prefix{4})> && !PairMask<decltype(causal{} & prefix{4})>);
static_assert(IntervalMask<decltype(window{4} & chunked{5} & causal{} & full{})>);
static_assert(PairMask<decltype(causal{} & even)> && !IntervalMask<decltype(causal{} & even)>);
static_assert(PairMask<decltype(causal{} | window{4})> && !IntervalMask<decltype(causal{} | window{4})>);
static_assert(PairMask<decltype(!causal{})> && std::is_same_v<decltype(!!causal{}), causal>);
static_assert(decltype(causal{} & prefix{4})::code != decltype(prefix{4} & causal{})::code);
static_assert(decltype(causal{} | prefix{4})::code != decltype(causal{} & prefix{4})::code);
static_assert(rondo::Mask<decltype(even)> && rondo::Mask<decltype((!even) | causal{})>);

template <class A, class B, class RuleA, class RuleB>
void check_pair(const A& a, const B& b, const RuleA& rule_a, const RuleB& rule_b) {
  check_mask(
      a & b, [&](auto i, auto j) { return rule_a(i, j) && rule_b(i, j); }, runs(), nowhere, end_of_positions);
  check_mask(
      a | b, [&](auto i, auto j) { return rule_a(i, j) || rule_b(i, j); }, runs(), nowhere, end_of_positions);
  check_mask(
      !(a & b), [&](auto i, auto j) { return !rule_a(i, j) || !rule_b(i, j); }, runs(), nowhere, end_of_positions);
  check_mask(
      a & !b, [&](auto i, auto j) { return rule_a(i, j) && !rule_b(i, j); }, runs(), nowhere, end_of_positions);
}

TEST_CASE("Two masks joined are what their definitions say, and their coverage is never wrong") {
  check_pair(causal{}, chunked{5}, is_before, in_block);
  check_pair(window{4, 2}, documents().mask(), is_near, in_document);
  check_pair(prefix{7}, even, in_prefix, is_even);
  check_pair(even, window{4, 2}, is_even, is_near);
  check_pair(
      full{}, causal{}, [](auto, auto) { return true; }, is_before);
}

TEST_CASE("Three masks joined are what their definitions say") {
  check_mask((causal{} & documents().mask()) | !window{4, 2},
             [](auto i, auto j) { return (is_before(i, j) && in_document(i, j)) || !is_near(i, j); }, runs(), nowhere,
             end_of_positions);
  check_mask(
      (!(even | causal{})) & chunked{5},
      [](auto i, auto j) { return !(is_even(i, j) || is_before(i, j)) && in_block(i, j); }, runs(), nowhere,
      end_of_positions);
}

TEST_CASE("A causal window is a window, with its exact coverage") {
  check_mask(
      causal{} & window{4, 2}, [](auto i, auto j) { return i - 4 <= j && j <= i; }, runs(), of_equal_stride,
      end_of_positions);
}

TEST_CASE("A combination leaves out what one of its parts leaves out, and is full where both are") {
  const Run queries{100, 1, 50};
  using rondo::Coverage;
  const auto mask = causal{} & chunked{40};
  CHECK(mask.coverage(0, 0, queries, Run{0, 1, 80}) == Coverage::none);
  CHECK(mask.coverage(0, 0, queries, Run{150, 1, 10}) == Coverage::none);
  CHECK(mask.coverage(0, 0, Run{110, 1, 10}, Run{80, 1, 30}) == Coverage::all);
  CHECK((!mask).coverage(0, 0, queries, Run{150, 1, 10}) == Coverage::all);
  CHECK((causal{} | chunked{40}).coverage(0, 0, queries, Run{0, 1, 80}) == Coverage::all);
  CHECK((even & causal{}).coverage(0, 0, queries, Run{150, 1, 10}) == Coverage::none);
}

TEST_CASE("A mask put together at run time is what its parts are together") {
  const Lengths lengths{{12}};
  const auto is_real = [](std::int64_t, std::int64_t j) { return j < 12; };
  for (int choice = 0; choice < 64; ++choice) {
    const auto has = [choice](int part) { return (choice >> part) % 2 == 1; };
    intervals mask;
    if (has(0)) mask &= causal{};
    if (has(1)) mask &= window{4, 2};
    if (has(2)) mask &= chunked{5};
    if (has(3)) mask &= prefix{7};
    if (has(4)) mask &= documents().mask();
    if (has(5)) mask &= lengths.mask();
    const auto rule = [&](std::int64_t i, std::int64_t j) {
      return (!has(0) || is_before(i, j)) && (!has(1) || is_near(i, j)) && (!has(2) || in_block(i, j)) &&
             (!has(3) || in_prefix(i, j)) && (!has(4) || in_document(i, j)) && (!has(5) || is_real(i, j));
    };
    INFO("choice " << choice);
    check_mask(mask, rule, choice < 4 ? runs() : small_runs(6, 2, 4), choice < 4 ? of_equal_stride : nowhere,
               end_of_positions);
  }
}

TEST_CASE("A mask put together at run time keeps the narrower of two windows and of two prefixes") {
  intervals mask = window{9, 3};
  mask &= window{4, 5};
  CHECK(mask.keys(0, 0, 100) == rondo::Interval{96, 104});
  mask = prefix{9};
  mask &= prefix{4};
  CHECK(mask.keys(0, 0, 0) == rondo::Interval{0, 4});
  for (int part = 0; part < 20; ++part) mask &= window{4, 5};  // takes no further room
  mask = chunked{6};
  mask &= chunked{4};
  CHECK(mask.keys(0, 0, 5) == rondo::Interval{4, 6});
}

TEST_CASE("A mask put together at run time refuses what its parts refuse, and a part too many") {
  intervals mask;
  mask &= chunked{0};
  CHECK(refusal_of([&] { mask.check(1, 4, 4); }) == "chunked: the length is 0, it must be at least 1");
  CHECK(refusal_of([&] { (causal{} & window{-1}).check(1, 4, 4); }) ==
        "window: left is -1, it must be at least 0 (window::unlimited for no limit)");
  CHECK(refusal_of([&] { (!(prefix{-1} | causal{})).check(1, 4, 4); }) ==
        "prefix: the length is -1, it must be at least 0");
  CHECK(refusal_of([&] {
          for (int part = 0; part < intervals::most_parts; ++part) mask &= chunked{2};
        }) == "intervals: 7 parts, there is room for 6");
  intervals other = window{1, 2};
  CHECK(other.fingerprint() != intervals{window{2, 1}}.fingerprint());
  CHECK(other.fingerprint() != intervals{}.fingerprint());
}

TEST_CASE("The work of a long tile of a mask that is asked pair by pair is the number of its pairs") {
  const Run queries{3, 2, 301}, keys{1, 3, 290};
  const Count count = count_pairs(queries, keys, [](auto i, auto j) { return is_even(i, j) && is_before(i, j); });
  CHECK((even & causal{}).work(0, 0, queries, keys) == count.allowed);
  CHECK((causal{} & even).work(0, 0, queries, keys) == count.allowed);
}

}  // namespace
