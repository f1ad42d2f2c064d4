/// \file
/// The program hundred_million as a user runs it, on fewer tokens.
#include <support/process.hpp>
#include <support/temporary_directory.hpp>

#include <catch2/catch_test_macros.hpp>
#include <nlohmann/json.hpp>

#include <string>
#include <vector>

namespace rondo::test {
namespace {

using nlohmann::json;

ProcessResult run(const TemporaryDirectory& place, std::vector<std::string> options) {
  options.insert(options.begin(), HUNDRED_MILLION_PROGRAM);
  options.insert(options.end(), {"--json", "result.json"});
  return run_process(options, place.path());
}

const std::vector<std::string> rows{"rows",    "--tokens", "300000", "--segment", "120000",
                                    "--chunk", "8192",     "--rows", "2"};

std::vector<std::string> with(std::vector<std::string> options, const std::vector<std::string>& more) {
  options.insert(options.end(), more.begin(), more.end());
  return options;
}

TEST_CASE("rows over keys made on the fly are right, and show how far they are") {
  const TemporaryDirectory place;
  const ProcessResult result = run(place, rows);
  INFO(result.output);
  REQUIRE(result.status == 0);
  const json found = json::parse(read_file(place / "result.json"));
  CHECK(found.at("right") == true);
  CHECK(found.at("tokens") == 300'000);
  CHECK(found.at("query_rows") == 8);
  CHECK(found.at("max_error").get<double>() < 1e-3);
  CHECK(found.at("max_error").get<double>() > 0);
  // Every key and value of 64 floats is sent three hops.
  CHECK(found.at("bytes_sent").get<double>() >= 300'000.0 * 3 * 2 * 64 * 4);
  CHECK(found.at("peak_resident_bytes").get<double>() > 0);
  CHECK(result.output.find("left") != std::string::npos);
  // Twice as many keys take not a byte more.
  REQUIRE(run(place, with(rows, {"--tokens", "600000"})).status == 0);
  CHECK(json::parse(read_file(place / "result.json")).at("peak_bytes") == found.at("peak_bytes"));
}

TEST_CASE("rows over keys and values from a file are those over the same made on the fly; a changed file is noticed") {
  const TemporaryDirectory place;
  REQUIRE(run(place, rows).status == 0);
  const json made = json::parse(read_file(place / "result.json"));
  const ProcessResult result = run(place, with(rows, {"--file", "kv"}));
  INFO(result.output);
  REQUIRE(result.status == 0);
  const json read = json::parse(read_file(place / "result.json"));
  for (const char* same : {"max_error", "max_error_lse", "bytes_sent"}) CHECK(read.at(same) == made.at(same));
  CHECK(result.output.find("writing") != std::string::npos);
  CHECK(read.at("peak_bytes").get<double>() < made.at("peak_bytes").get<double>());  // nothing is made in memory

  // A piece of values that is another one: the second of the first rank's.
  std::string bytes = read_file(place / "kv");
  constexpr std::size_t value = 64 * sizeof(float), values = 300'000 * value, piece = 8192 * value;
  bytes.replace(values + piece, piece, bytes.substr(values, piece));
  write_file(place / "kv", bytes);
  const ProcessResult wrong = run(place, with(rows, {"--file", "kv"}));
  CHECK(wrong.status == 1);
  CHECK(wrong.output.find("the result is wrong") != std::string::npos);
}

TEST_CASE("a single piece left out is found") {
  for (const char* key : {"0", "150000", "299999"}) {
    const TemporaryDirectory place;
    const ProcessResult result = run(place, with(rows, {"--leave-out", key}));
    INFO(result.output);
    CHECK(result.status == 1);
    CHECK(result.output.find("the result is wrong: the largest error is") != std::string::npos);
  }
}

TEST_CASE("an interrupted run goes on to the same numbers; another run's checkpoint is refused") {
  const TemporaryDirectory place;
  REQUIRE(run(place, rows).status == 0);
  const json whole = json::parse(read_file(place / "result.json"));
  const ProcessResult first = run(place, with(rows, {"--checkpoint", "state.json", "--stop-after", "1"}));
  INFO(first.output);
  REQUIRE(first.status == 0);
  CHECK(json::parse(read_file(place / "result.json")).at("tokens") == 120'000);
  const ProcessResult second = run(place, with(rows, {"--checkpoint", "state.json"}));
  INFO(second.output);
  REQUIRE(second.status == 0);
  CHECK(second.output.find("going on from state.json after 120000 keys") != std::string::npos);
  const json resumed = json::parse(read_file(place / "result.json"));
  for (const char* same : {"max_error", "max_error_lse", "bytes_sent"}) CHECK(resumed.at(same) == whole.at(same));
  const ProcessResult other = run(place, with(rows, {"--checkpoint", "state.json", "--ranks", "2"}));
  CHECK(other.status == 1);
  CHECK(other.output.find("is of another run") != std::string::npos);
}

TEST_CASE("packed documents are right, forward and backward, on both sides of the borders of shards") {
  for (const char* sharding : {"contiguous", "striped"}) {
    const TemporaryDirectory place;
    const ProcessResult result = run(place, {"documents", "--tokens", "60000", "--chunk", "2048", "--documents", "10",
                                             "--checkpoint", "state", "--sharding", sharding});
    INFO(result.output);
    REQUIRE(result.status == 0);
    const json found = json::parse(read_file(place / "result.json"));
    CHECK(found.at("right") == true);
    CHECK(found.at("max_error").get<double>() > 0);
    CHECK(found.at("most_ranks_spanned").get<int>() >= 3);
    CHECK(found.at("documents_checked").get<int>() >= 10);
    CHECK(found.at("numbers_checked").get<double>() > 8 * 500);
    // Striped, every key and value of 2 floats travels three hops each way, and its gradient home.
    CHECK(found.at("bytes_sent").get<double>() >= (found.at("sharding") == "striped" ? 60'000.0 * 3 * 3 * 4 * 4 : 1.0));
    CHECK(result.output.find("100 %") != std::string::npos);
    CHECK(result.output.find("101 %") == std::string::npos);
  }
}

TEST_CASE("documents go on from a forward pass that is there, and notice when it is another's") {
  const TemporaryDirectory place;
  const std::vector<std::string> documents{"documents",   "--tokens", "30000",        "--chunk", "2048",
                                           "--documents", "3",        "--checkpoint", "state"};
  REQUIRE(run(place, with(documents, {"--stop-after", "1"})).status == 0);
  CHECK(json::parse(read_file(place / "result.json")).at("finished") == false);
  const ProcessResult other = run(place, with(documents, {"--tokens", "30001"}));
  CHECK(other.status == 1);
  CHECK(other.output.find("is of another run") != std::string::npos);
  const ProcessResult second = run(place, documents);
  INFO(second.output);
  REQUIRE(second.status == 0);
  CHECK(second.output.find("forward is taken from") != std::string::npos);
  CHECK(json::parse(read_file(place / "result.json")).at("right") == true);
}

}  // namespace
}  // namespace rondo::test
