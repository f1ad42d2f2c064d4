// A training over processes: in rings side by side, and when some are killed and the others go on to the same numbers.
#include <cstdlib>
#define TRAIN_PROGRAM std::getenv("TRAIN_PROGRAM")
#include "../../../examples/train_program.hpp"

#include <catch2/catch_message.hpp>
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include <signal.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

namespace {

using namespace rondo::test;
using Catch::Matchers::ContainsSubstring;

using Words = std::vector<std::string>;

constexpr int steps = 40;
constexpr int checkpoint_every = 5;

/// The launcher's command, then train's.
Words over_mpi(const Workplace& place, const Words& options) {
  std::istringstream launcher(std::getenv("TRAIN_LAUNCH"));
  Words words;
  for (std::string word; std::getline(launcher, word, '|');) words.push_back(word);
  const Words program =
      place.command({"--comm", "mpi", "--context", "1601", "--steps", std::to_string(steps), "--checkpoint-every",
                     std::to_string(checkpoint_every), "--deadline", std::getenv("TRAIN_DEADLINE")});
  words.insert(words.end(), program.begin(), program.end());
  words.insert(words.end(), options.begin(), options.end());
  return words;
}

/// Steps in a metrics file, which tells sooner than the launcher passes on what ranks write.
std::size_t steps_in(const std::string& file) {
  std::ifstream in(file);
  return static_cast<std::size_t>(std::count(std::istreambuf_iterator<char>(in), {}, '\n'));
}

/// Kills the process that started as `rank`, once `step` has been made.
void kill_rank(const Workplace& place, int rank, std::size_t step) {
  for (int i = 0; i < 10000 && steps_in(place.file("parts.jsonl")) < step; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  REQUIRE(steps_in(place.file("parts.jsonl")) >= step);
  const int process = std::stoi(read_file(place.file("pid." + std::to_string(rank))));
  REQUIRE(process > 1);
  REQUIRE(kill(process, SIGKILL) == 0);
}

/// The step from which `left` ranks went on.
int went_on_from(const std::string& output, int left) {
  const std::size_t begin = output.find("going on with " + std::to_string(left) + " ranks");
  const std::string resumed = "resumed after step ";
  const std::size_t at = output.find(resumed, begin);
  REQUIRE(begin != std::string::npos);
  REQUIRE(at != std::string::npos);
  return std::stoi(output.substr(at + resumed.size()));
}

/// The largest difference of two runs' losses, as a share of the second's. \throws what Catch2 does when steps are missing
double distance(const std::vector<double>& a, const std::vector<double>& b) {
  REQUIRE(a.size() == steps);
  REQUIRE(b.size() == steps);
  double largest = 0;
  for (std::size_t i = 0; i < a.size(); ++i) largest = std::max(largest, std::abs(a[i] - b[i]) / b[i]);
  return largest;
}

/// Of four ranks, one is killed and then another: those that are left go on, as `three` and `two` say.
void check_killed_twice(const Words& options, const std::string& three, const std::string& two) {
  const Workplace place;
  const auto command = [&](const std::string& name) {
    Words words = over_mpi(place, options);
    words.insert(words.end(), {"--checkpoint", name + ".ck", "--metrics", name + ".jsonl"});
    return words;
  };
  const ProcessResult undisturbed = run_process(command("whole"), place.files.path());
  INFO(undisturbed.output);
  REQUIRE(undisturbed.status == 0);
  const std::vector<double> whole = read_losses(place.file("whole.jsonl"));
  REQUIRE(whole.size() == steps);

  Process running(command("parts"), place.files.path());
  INFO(running.output());
  kill_rank(place, 2, 8);
  REQUIRE(running.wait_for("going on with " + three));
  kill_rank(place, 0, 23);  // it speaks and writes: another does so after it
  const std::string output = running.finish().output;
  INFO(output);
  CHECK_THAT(output, ContainsSubstring("going on with " + two) && ContainsSubstring("held-out text: "));
  // All that is lost are the steps since the last checkpoint; machines are busy, so some more may have been made.
  const int first = went_on_from(output, 3);
  const int second = went_on_from(output, 2);
  CHECK((first >= 5 && first < 20 && first % checkpoint_every == 0));
  CHECK((second >= 20 && second < steps && second % checkpoint_every == 0));

  const std::vector<nlohmann::json> metrics = read_metrics(place.file("parts.jsonl"));
  REQUIRE(metrics.size() == steps);
  double largest = 0;
  for (std::size_t i = 0; i < metrics.size(); ++i) {
    INFO("step " << i + 1);
    CHECK(metrics[i].at("step") == i + 1);
    const double loss = metrics[i].at("loss");
    if (i < checkpoint_every) CHECK(loss == whole[i]);
    // Fewer ranks add the same numbers up in another order.
    const double apart = std::abs(loss - whole[i]) / whole[i];
    CHECK(apart <= 1e-7);
    largest = std::max(largest, apart);
  }
  std::printf("last loss %.9f, undisturbed %.9f; at most %.1e apart\n", metrics.back().at("loss").get<double>(),
              whole.back(), largest);
}

}  // namespace

TEST_CASE("two rings of two processes train as one rank that sees all their windows") {
  const Workplace place;
  const ProcessResult mesh =
      run_process(over_mpi(place, {"--data-parallel", "2", "--metrics", "mesh.jsonl"}), place.files.path());
  INFO(mesh.output);
  REQUIRE(mesh.status == 0);
  CHECK_THAT(mesh.output, ContainsSubstring("ring: 4 ranks in 2 rings, "));
  const Words one_rank{"--ranks", "1", "--context", "1601", "--steps", std::to_string(steps), "--metrics", "one.jsonl"};
  const auto alone = [&](const char* batch) {
    Words words = one_rank;
    words.insert(words.end(), {"--batch", batch});
    const ProcessResult result = place.run(words);
    INFO(result.output);
    REQUIRE(result.status == 0);
    return read_losses(place.file("one.jsonl"));
  };
  const double apart = distance(read_losses(place.file("mesh.jsonl")), alone("2"));
  CHECK(apart <= 1e-7);
  CHECK(distance(read_losses(place.file("mesh.jsonl")), alone("1")) > 1e-3);
  std::printf("losses at most %.1e apart\n", apart);
}

TEST_CASE("a run whose ranks are killed twice ends as an undisturbed one") {
  check_killed_twice({}, "3 ranks", "2 ranks");
}

TEST_CASE("a mesh whose ranks are killed twice goes on in rings of those that are left") {
  check_killed_twice({"--data-parallel", "2"}, "3 ranks", "2 ranks in 2 rings");
}
