// A run that was stopped goes on to the numbers it would have had: through --stop-after, through Ctrl-C, on other ranks.
#include "train_program.hpp"

#include <catch2/catch_approx.hpp>
#include <catch2/catch_message.hpp>
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include <chrono>
#include <cmath>
#include <csignal>
#include <cstddef>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

namespace {

using namespace rondo::test;
using Catch::Matchers::ContainsSubstring;

using Words = std::vector<std::string>;

Words operator+(Words a, const Words& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

/// Compares without printing: the bytes of a checkpoint say nothing to a reader.
bool same_bytes(const std::string& file, const std::string& bytes) { return read_file(file) == bytes; }

/// A run of nine steps that nothing disturbs: its losses, and all its bits in the checkpoint.
struct Undisturbed {
  explicit Undisturbed(const Workplace& place, const Words& options) {
    const ProcessResult result = place.run(options + Words{"--checkpoint", "whole.ck", "--metrics", "whole.jsonl"});
    INFO(result.output);
    REQUIRE(result.status == 0);
    losses = read_losses(place.file("whole.jsonl"));
    REQUIRE(losses.size() == 9);
    checkpoint = read_file(place.file("whole.ck"));
  }
  std::vector<double> losses;
  std::string checkpoint;
};

}  // namespace

TEST_CASE("a stopped run resumes to the same losses and the same weights, bit by bit") {
  for (const Words& ring : {Words{"--ranks", "1"}, Words{"--ranks", "3"}, Words{"--ranks", "4", "--sharding", "zigzag"},
                            Words{"--ranks", "2", "--sharding", "contiguous", "--tied"},
                            Words{"--ranks", "4", "--data-parallel", "2", "--batch", "4"}}) {
    const Workplace place;
    const Undisturbed whole(place, ring);
    for (const char* first : {"1", "4", "8"}) {
      INFO(ring[1] << " ranks, stopped after " << first);
      const Words files{"--checkpoint", "parts.ck", "--metrics", "parts.jsonl"};
      const ProcessResult stopped = place.run(ring + files + Words{"--stop-after", first});
      INFO(stopped.output);
      REQUIRE(stopped.status == 0);
      CHECK_THAT(stopped.output, ContainsSubstring("stopped after step " + std::string(first) + " of 9"));
      CHECK_FALSE(same_bytes(place.file("parts.ck"), whole.checkpoint));

      const ProcessResult resumed = place.run(ring + files + Words{"--resume"});
      INFO(resumed.output);
      REQUIRE(resumed.status == 0);
      CHECK_THAT(resumed.output, ContainsSubstring("resumed after step " + std::string(first)));
      CHECK(read_losses(place.file("parts.jsonl")) == whole.losses);
      CHECK(same_bytes(place.file("parts.ck"), whole.checkpoint));
    }
  }
}

TEST_CASE("a checkpoint resumes on other numbers of ranks and other shardings to the same curve") {
  const Workplace place;
  const Undisturbed whole(place, {"--ranks", "2"});
  for (const Words& ring : {Words{"--ranks", "1"}, Words{"--ranks", "5", "--sharding", "zigzag", "--chunk", "7"},
                            Words{"--ranks", "3", "--sharding", "contiguous"}}) {
    INFO(ring[1] << " ranks");
    const Words files{"--checkpoint", "parts.ck", "--metrics", "parts.jsonl"};
    REQUIRE(place.run(Words{"--ranks", "2", "--stop-after", "4"} + files).status == 0);
    const ProcessResult resumed = place.run(ring + files + Words{"--resume"});
    INFO(resumed.output);
    REQUIRE(resumed.status == 0);
    const std::vector<double> losses = read_losses(place.file("parts.jsonl"));
    REQUIRE(losses.size() == whole.losses.size());
    for (std::size_t i = 0; i < losses.size(); ++i) {
      INFO("step " << i + 1);
      CHECK(losses[i] == Catch::Approx(whole.losses[i]).epsilon(1e-4));
      if (i < 4) CHECK(losses[i] == whole.losses[i]);
    }
  }
}

TEST_CASE("of the steps that a lost run made after its last checkpoint, the metrics keep none") {
  const Workplace place;
  const Undisturbed whole(place, {"--ranks", "2"});
  const Words parts{"--ranks", "2", "--checkpoint", "parts.ck", "--metrics", "parts.jsonl"};
  REQUIRE(place.run(parts + Words{"--stop-after", "4"}).status == 0);
  const std::string fourth = read_file(place.file("parts.ck"));
  REQUIRE(place.run(parts + Words{"--stop-after", "3", "--resume"}).status == 0);
  REQUIRE(read_losses(place.file("parts.jsonl")).size() == 7);
  write_file(place.file("parts.ck"), fourth);  // as if the last three steps had never been saved
  REQUIRE(place.run(parts + Words{"--resume"}).status == 0);
  CHECK(read_losses(place.file("parts.jsonl")) == whole.losses);
}

TEST_CASE("a finished run resumes without another step") {
  const Workplace place;
  const Undisturbed whole(place, {"--ranks", "2"});
  const ProcessResult again =
      place.run({"--ranks", "2", "--checkpoint", "whole.ck", "--metrics", "whole.jsonl", "--resume"});
  INFO(again.output);
  CHECK(again.status == 0);
  CHECK_THAT(again.output, ContainsSubstring("resumed after step 9") && ContainsSubstring("held-out"));
  CHECK(read_losses(place.file("whole.jsonl")) == whole.losses);
  CHECK(same_bytes(place.file("whole.ck"), whole.checkpoint));
}

TEST_CASE("Ctrl-C leaves a checkpoint from which the run goes on to the numbers of an undisturbed one") {
  for (const int signal : {SIGINT, SIGTERM}) {
    const Workplace place;
    // Steps that are long enough to be interrupted: about 50 ms each.
    const Words slow{"--context", "1901", "--ranks", "2", "--steps", "25", "--chunk", "512"};
    REQUIRE(place.run(slow + Words{"--checkpoint", "whole.ck", "--metrics", "whole.jsonl"}).status == 0);
    const std::vector<double> losses = read_losses(place.file("whole.jsonl"));
    REQUIRE(losses.size() == 25);

    const Words files{"--checkpoint", "parts.ck", "--metrics", "parts.jsonl"};
    Process running(place.command(slow + files), place.files.path());
    REQUIRE(running.wait_for("step 3/25"));
    running.send(signal);
    const ProcessResult interrupted = running.finish();
    INFO(interrupted.output);
    CHECK(interrupted.status == 128 + signal);
    CHECK_THAT(interrupted.output, ContainsSubstring("stopping at the end of this step"));
    const std::vector<double> made = read_losses(place.file("parts.jsonl"));
    REQUIRE(made.size() >= 3);
    REQUIRE(made.size() < 25);
    CHECK_THAT(interrupted.output, ContainsSubstring("stopped after step " + std::to_string(made.size()) + " of 25"));
    CHECK_FALSE(std::filesystem::exists(place.file("parts.ck.unfinished")));

    const ProcessResult resumed = place.run(slow + files + Words{"--resume"});
    INFO(resumed.output);
    REQUIRE(resumed.status == 0);
    CHECK(read_losses(place.file("parts.jsonl")) == losses);
    CHECK(same_bytes(place.file("parts.ck"), read_file(place.file("whole.ck"))));
  }
}

TEST_CASE("without --checkpoint Ctrl-C leaves one, and says the command that goes on") {
  const Workplace place;
  Process running(place.command({"--context", "1901", "--ranks", "2", "--steps", "25", "--prompt", "it's \"so\""}),
                  place.files.path());
  REQUIRE(running.wait_for("step 1/25"));
  running.send(SIGINT);
  const ProcessResult interrupted = running.finish();
  INFO(interrupted.output);
  CHECK(interrupted.status == 128 + SIGINT);
  REQUIRE(std::filesystem::exists(place.file("train.checkpoint")));

  const std::string before = "this goes on:\n  ";
  const std::size_t begin = interrupted.output.find(before);
  REQUIRE(begin != std::string::npos);
  const std::string command = interrupted.output.substr(begin + before.size());
  const ProcessResult resumed = run_process({"/bin/sh", "-c", command}, place.files.path());
  INFO(command);
  INFO(resumed.output);
  CHECK(resumed.status == 0);
  CHECK_THAT(resumed.output, ContainsSubstring("resumed after step ") && ContainsSubstring("step 25/25"));
}

TEST_CASE("a second Ctrl-C ends at once, and leaves the checkpoint that was written before") {
  const Workplace place(code_like_text(100'000));
  // Steps of about a second: both signals come within one.
  const Words slow{"--context", "16000", "--ranks", "1", "--steps", "15", "--checkpoint", "parts.ck"};
  REQUIRE(place.run(slow + Words{"--stop-after", "1"}).status == 0);
  const std::string before = read_file(place.file("parts.ck"));

  Process running(place.command(slow + Words{"--resume"}), place.files.path());
  REQUIRE(running.wait_for("step 2/15"));
  // Step 2 is shown just before it ends: a signal between the two would stop the run at step 2, with a new checkpoint.
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  running.send(SIGINT);
  REQUIRE(running.wait_for("once more ends at once"));
  running.send(SIGINT);
  const ProcessResult ended = running.finish();
  INFO(ended.output);
  CHECK(ended.signal == SIGINT);
  CHECK(ended.output.find("stopped after") == std::string::npos);
  CHECK(same_bytes(place.file("parts.ck"), before));
}
