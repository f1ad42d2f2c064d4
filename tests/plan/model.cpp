#include "message_of.hpp"

#include <rondo/plan.hpp>

#include <catch2/catch_test_macros.hpp>

#include <set>

namespace rondo::test {
namespace {

TEST_CASE("models have as many parameters as their makers say") {
  CHECK(plan::model("7B").parameters() == 6'738'415'616);
  CHECK(plan::model("13B").parameters() == 13'015'864'320);
  CHECK(plan::model("65B").parameters() == 65'285'660'672);
  CHECK(plan::model("llama3-8b").parameters() == 8'030'261'248);
  CHECK(plan::model("llama3-70b").parameters() == 70'553'706'496);
  CHECK(plan::model("llama3-405b").parameters() == 405'853'388'800);
}

TEST_CASE("tables of models and machines have no entry twice, none that makes no sense, and sources") {
  std::set<std::string> names;
  for (const plan::Model& model : plan::models()) {
    CHECK_NOTHROW(model.checked());
    CHECK(names.insert(model.name).second);
  }
  for (const plan::Machine& machine : plan::machines()) {
    CHECK_NOTHROW(plan::checked(machine));
    CHECK(names.insert(machine.name).second);
    CHECK(machine.source.size() > 40);
    CHECK(machine.flops_float <= machine.flops);
  }
}

TEST_CASE("a model or a machine that there is not, or that makes no sense, is refused with what there is") {
  CHECK(message_of<argument_error>([] { plan::model("8B"); }).find("there is no model 8B; there are 3B, 7B") !=
        std::string::npos);
  CHECK(message_of<argument_error>([] { plan::machine("A1000"); }).find("A100, H100, H200") != std::string::npos);
  CHECK(message_of<argument_error>([] { plan::Model{.dim = 100, .heads = 3}.checked(); }) ==
        "model: dim is 100, it must be a multiple of heads, which is 3");
  CHECK(message_of<argument_error>([] { plan::Model{.dim = 0}.checked(); }) ==
        "model: dim is 0, it must be at least 1");
  plan::Machine machine = plan::machine("A100");
  machine.between.latency = -1;
  CHECK(message_of<argument_error>([&] { plan::checked(machine); }) ==
        "machine A100: latency is -1 s, it must be 0 or more");
}

}  // namespace
}  // namespace rondo::test
