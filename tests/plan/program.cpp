/// \file
/// rondo-plan as a user runs it.
#include <support/process.hpp>
#include <support/temporary_directory.hpp>

#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <nlohmann/json.hpp>

#include <filesystem>
#include <string>
#include <vector>

namespace rondo::test {
namespace {

using Catch::Approx;
using nlohmann::json;

ProcessResult run(const TemporaryDirectory& place, std::vector<std::string> options) {
  options.insert(options.begin(), PLAN_PROGRAM);
  return run_process(options, place.path());
}

json planned(std::vector<std::string> options) {
  const TemporaryDirectory place;
  options.insert(options.end(), {"--json", "a plan.json"});
  const ProcessResult result = run(place, options);
  INFO(result.output);
  REQUIRE(result.status == 0);
  return json::parse(read_file(place / "a plan.json"));
}

TEST_CASE("a plan says what its options say, in text and in JSON") {
  const json plan =
      planned({"--model", "llama3-8b", "--machine", "H100", "--ranks", "16", "--between-bandwidth", "12.5",
               "--between-latency", "0", "--context", "131072", "--mask", "causal", "--efficiency", "0.5"})
          .at("plan");
  CHECK(plan.at("model").at("parameters") == 8'030'261'248);
  CHECK(plan.at("tokens_per_rank") == 8192);
  CHECK(plan.at("fits") == true);
  // k and v of 8 heads of 128 in two bytes, 4096 tokens a piece; with their gradients in four bytes backward.
  CHECK(plan.at("forward").at("hop_bytes") == 4096.0 * 2 * 1024 * 2);
  CHECK(plan.at("backward").at("hop_bytes") == 4096.0 * (2 * 1024 * 2 + 2 * 1024 * 4));
  // F/B, twice for causal, a quarter for four query heads a kv head.
  CHECK(plan.at("forward").at("smallest_block").get<double>() == Approx(989e12 / 2 / 12.5e9 * 2 / 4).epsilon(1e-3));
  CHECK(plan.at("bytes").at("total").get<double>() > plan.at("bytes").at("kept").get<double>());
  const TemporaryDirectory place;
  const ProcessResult text = run(place, {"--machine", "TPUv4", "--ranks", "64"});
  CHECK(text.output.find("largest  context that fits 64 ranks: ") != std::string::npos);
  CHECK(text.output.find("model FLOP utilisation") != std::string::npos);
}

TEST_CASE("a machine of one's own is planned for, and one that is too small is said to be") {
  const json plan = planned({"--tflops", "1",     "--memory",  "100",  "--bandwidth",  "1", "--latency", "0",
                             "--ranks",  "4",     "--mask",    "full", "--efficiency", "1", "--chunk",   "100000000",
                             "--type",   "float", "--context", "4000"})
                        .at("plan");
  CHECK(plan.at("forward").at("smallest_block").get<double>() ==
        Approx(2 * 1000));  // twice the bytes of the papers' case
  CHECK(plan.at("forward").at("exposed_share").get<double>() > 0);
  const TemporaryDirectory place;
  const ProcessResult small = run(place, {"--memory", "1"});
  CHECK(small.status == 0);
  CHECK(small.output.find("not even a token a rank fits") != std::string::npos);
}

TEST_CASE("the published figures stand beside ours") {
  const json tables = planned({"--published"}).at("published");
  CHECK(tables.at("contexts").size() == 13);
  for (const json& row : tables.at("contexts")) CHECK(row.at("ratio") == row.at("printed_ratio"));
  int equal = 0;
  for (const json& row : tables.at("blocks")) equal += row.at("equal").get<bool>() ? 1 : 0;
  CHECK(equal == 4);
  for (const json& row : tables.at("costs")) CHECK(row.at("equal") == true);
  for (const json& row : tables.at("utilisations")) CHECK(row.at("exposed_share") == 0);
}

TEST_CASE("rings are simulated, with nodes and with a slow rank") {
  const json simulation = planned({"--simulate", "--machine", "H100", "--model", "llama3-8b", "--tokens-per-rank",
                                   "4096", "--most-ranks", "64", "--slow-rank", "2"})
                              .at("simulation");
  const json& lines = simulation.at("lines");
  REQUIRE(lines.size() == 3);
  const auto efficiency = [&](std::size_t line, std::size_t size) {
    CHECK(lines[line].at("points").size() == 2);
    return lines[line].at("points")[size].at("forward").at("efficiency").get<double>();
  };
  // 8 ranks are one node; with 64, pieces of 16 MiB wait for links between nodes: 345 us behind 277 us of computing.
  CHECK(efficiency(0, 1) == Approx(1).epsilon(0.01));
  CHECK(efficiency(1, 0) == Approx(efficiency(0, 0)));
  CHECK(efficiency(1, 1) == Approx(277.0 / 345).epsilon(0.02));
  CHECK(efficiency(2, 0) == Approx(0.5).epsilon(0.02));
}

TEST_CASE("this machine is measured") {
  const json machine = planned({"--measure", "--model", "7B", "--layers", "1", "--dim", "256", "--heads", "4", "--ffn",
                                "512", "--vocabulary", "1000", "--ranks", "2", "--type", "float"})
                           .at("plan")
                           .at("machine");
  CHECK(machine.at("flops_float").get<double>() > 1e8);
  CHECK(machine.at("memory_bytes").get<double>() > 1e8);
  CHECK(machine.at("inside").at("bytes_per_second").get<double>() > 1e6);
  CHECK(machine.at("inside").at("latency").get<double>() > 0);
}

TEST_CASE("what makes no sense is refused, with what would") {
  const std::pair<std::vector<std::string>, std::string> refusals[] = {
      {{"--machine", "A1000"}, "there is no machine A1000; there are A100, H100"},
      {{"--model", "8B"}, "there is no model 8B; there are 3B, 7B"},
      {{"--mask", "window"}, "--mask is window, it must be full, causal, window:TOKENS or document:TOKENS"},
      {{"--mask", "window:-3"}, "--mask is window:-3"},
      {{"--sharding", "odd"}, "--sharding is odd"},
      {{"--ranks", "0"}, "ranks is 0, it must be at least 1"},
      {{"--type", "int"}, "there is no type int; there are float, bfloat16, float16"},
      {{"--mask", "document:100", "--sharding", "contiguous"}, "simulate them"},
      {{"--simulate", "--most-ranks", "3"}, "--simulate: 8192 tokens a rank, 3 ranks"},
      {{"--simulate", "--mask", "document:100"}, "--simulate: documents are not simulated"},
      {{"--json", "no/such/place.json"}, "no/such/place.json cannot be written"}};
  for (const auto& [options, reason] : refusals) {
    const TemporaryDirectory place;
    const ProcessResult result = run(place, options);
    INFO(result.output);
    CHECK(result.status == 1);
    CHECK(result.output.find(reason) != std::string::npos);
  }
}

TEST_CASE("plans and tables are drawn, where there is Python with matplotlib") {
  for (const std::vector<std::string>& what : {std::vector<std::string>{}, {"--published"}, {"--simulate", "--most-ranks", "64"}}) {
    const TemporaryDirectory place;
    std::vector<std::string> options = what;
    options.insert(options.end(), {"--plot", "a picture.png"});
    const ProcessResult result = run(place, options);
    INFO(result.output);
    if (result.output.find("Skipped (no Python") != std::string::npos) {
      CHECK(result.status == 1);
      SKIP("no Python with matplotlib can be had here");
    }
    CHECK(result.status == 0);
    CHECK(read_file(place / "a picture.png").substr(1, 3) == "PNG");
    CHECK(std::filesystem::file_size(place / "a picture.png") > 10'000);
    CHECK_FALSE(std::filesystem::exists(place / "a picture.png.json"));
  }
}

}  // namespace
}  // namespace rondo::test
