#include <rondo/error.hpp>

#include <catch2/catch_test_macros.hpp>

#include <concepts>
#include <stdexcept>
#include <string>
#include <type_traits>

namespace {

using namespace rondo;

static_assert(std::derived_from<error, std::runtime_error>);
static_assert(std::derived_from<argument_error, error> && std::derived_from<shape_error, argument_error>);
static_assert(std::derived_from<agreement_error, error> && !std::derived_from<agreement_error, argument_error>);
static_assert(std::derived_from<peer_failed, error> && std::derived_from<timeout_error, error>);
static_assert(!std::derived_from<timeout_error, peer_failed> && !std::derived_from<peer_failed, timeout_error>);

TEST_CASE("Every exception is caught as rondo::error, with its message") {
  const auto message_of = [](auto&& exception) -> std::string {
    try {
      throw exception;
    } catch (const error& caught) {
      return caught.what();
    }
  };
  CHECK(message_of(argument_error("a")) == "a");
  CHECK(message_of(shape_error("b")) == "b");
  CHECK(message_of(agreement_error("c")) == "c");
  CHECK(message_of(peer_failed(3, "d")) == "d");
  CHECK(message_of(timeout_error(-1, "e")) == "e");
}

TEST_CASE("A failed or silent peer is known by its rank") {
  CHECK(peer_failed(3, "").rank() == 3);
  CHECK(timeout_error(4, "").peer() == 4);
}

TEST_CASE("Messages are joined from words and numbers") {
  CHECK(detail::message("q has head_dim ", 64, ", k has ", std::string("128")) == "q has head_dim 64, k has 128");
}

}  // namespace
