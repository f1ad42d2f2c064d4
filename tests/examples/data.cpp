#include "../../examples/train/data.hpp"

#include <catch2/catch_message.hpp>
#include <catch2/catch_test_macros.hpp>

#include <cstdint>
#include <set>
#include <vector>

TEST_CASE("No window that is trained on touches the one that is held out, and all others are drawn") {
  constexpr std::int64_t context = 9;
  std::vector<std::uint8_t> text(100);
  for (std::size_t i = 0; i < text.size(); ++i) text[i] = static_cast<std::uint8_t>(i);  // a byte is its place
  const train::Corpus corpus(text, context);
  const train::Window held_out = corpus.held_out();
  REQUIRE(held_out.size() == context + 1);
  std::set<int> begins;
  for (std::int64_t step = 0; step < 5000; ++step) {
    const train::Window window = corpus.training(1, step);
    REQUIRE(window.size() == context + 1);
    CHECK((window.back() < held_out.front() || window.front() > held_out.back()));
    for (std::size_t i = 1; i < window.size(); ++i) REQUIRE(window[i] == window[i - 1] + 1);
    begins.insert(window.front());
  }
  // 100 bytes have 91 windows of ten; those that begin less than ten places from the held-out one are left out.
  CHECK(begins.size() == 91 - 19);
}

TEST_CASE("The window of a step depends on the seed and the step alone") {
  std::vector<std::uint8_t> text(1000);
  for (std::size_t i = 0; i < text.size(); ++i) text[i] = static_cast<std::uint8_t>(i % 251);
  const train::Corpus corpus(text, 20);
  const train::Corpus same(text, 20);
  int different = 0;
  for (std::int64_t step = 0; step < 50; ++step) {
    CHECK(corpus.training(3, step).front() == same.training(3, step).front());
    different += corpus.training(4, step).front() != corpus.training(3, step).front() ? 1 : 0;
  }
  CHECK(different > 25);
}

TEST_CASE("A fingerprint changes with every byte, with their order, and with the number of them") {
  const std::vector<std::uint8_t> text{1, 2, 3, 4};
  std::set<std::uint64_t> seen{train::fingerprint(text)};
  for (std::size_t i = 0; i < text.size(); ++i) {
    auto changed = text;
    changed[i] ^= 128;
    CHECK(seen.insert(train::fingerprint(changed)).second);
  }
  CHECK(seen.insert(train::fingerprint(std::vector<std::uint8_t>{2, 1, 3, 4})).second);
  CHECK(seen.insert(train::fingerprint(std::vector<std::uint8_t>{1, 2, 3, 4, 0})).second);
  CHECK(seen.insert(train::fingerprint(std::vector<std::uint8_t>{1, 2, 3})).second);
}
