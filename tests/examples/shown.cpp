// What the program train shows and writes: metrics, the progress bar and plain lines, the summary, the sample.
#include "train_program.hpp"

#include <catch2/catch_approx.hpp>
#include <catch2/catch_message.hpp>
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <set>
#include <string>
#include <vector>

namespace {

using namespace rondo::test;
using Catch::Matchers::ContainsSubstring;

std::size_t count(const std::string& text, const std::string& part) {
  std::size_t found = 0;
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + part.size())) ++found;
  return found;
}

/// The number that follows a text.
double number_after(const std::string& text, const std::string& before) {
  const std::size_t at = text.find(before);
  INFO(text);
  REQUIRE(at != std::string::npos);
  return std::stod(text.substr(at + before.size()));
}

/// What the program prints between its two lines of dashes.
std::string sample_of(const std::string& output) {
  const std::string line = "\n----\n";
  const std::size_t begin = output.find(line);
  const std::size_t end = output.rfind(line);
  INFO(output);
  REQUIRE(begin != std::string::npos);
  REQUIRE(end > begin);
  return output.substr(begin + line.size(), end - begin - line.size());
}

}  // namespace

TEST_CASE("the metrics are one JSON object a step with exactly the promised fields, and possible values") {
  const Workplace place;
  const ProcessResult result = place.run({"--ranks", "3", "--metrics", "run.jsonl"});
  INFO(result.output);
  REQUIRE(result.status == 0);
  const auto lines = read_metrics(place.file("run.jsonl"));
  REQUIRE(lines.size() == 9);
  const double parameters = number_after(result.output, "model: ");
  std::int64_t peak = 0;
  double seconds = 0;
  for (std::size_t i = 0; i < lines.size(); ++i) {
    INFO(lines[i].dump());
    std::set<std::string> fields;
    for (const auto& [key, value] : lines[i].items()) {
      CHECK(value.is_number());
      fields.insert(key);
    }
    CHECK(fields == std::set<std::string>{"step", "tokens", "loss", "seconds", "peak_bytes", "wait_share"});
    CHECK(lines[i]["step"] == i + 1);
    CHECK(lines[i]["tokens"] == (i + 1) * 101);
    CHECK(lines[i]["seconds"] > 0);
    CHECK((lines[i]["wait_share"] >= 0 && lines[i]["wait_share"] <= 1));
    CHECK(lines[i]["peak_bytes"] > 16 * parameters);  // weights, their gradient and two moments, in four bytes each
    CHECK(lines[i]["peak_bytes"] >= peak);
    peak = lines[i]["peak_bytes"];
    seconds += lines[i]["seconds"].get<double>();
  }
  // At the start every byte is about as likely as any other.
  CHECK(lines[0]["loss"].get<double>() == Catch::Approx(std::log(256.0)).epsilon(0.02));
  CHECK(lines[8]["loss"] < lines[0]["loss"]);
  CHECK(number_after(result.output, "tokens/s, ") == Catch::Approx(seconds).margin(0.051));
}

TEST_CASE("the peak counts all that a layer more makes a rank hold") {
  struct Held {
    double peak, parameters;
  };
  const auto held = [](const char* layers) {
    const Workplace place;
    const ProcessResult result =
        place.run({"--ranks", "1", "--layers", layers, "--steps", "2", "--metrics", "run.jsonl"});
    return Held{read_metrics(place.file("run.jsonl")).back()["peak_bytes"], number_after(result.output, "model: ")};
  };
  const Held few = held("2");
  const Held many = held("22");
  // Of 20 layers: parameters, their gradient and two moments; of 101 tokens x, query, attended, middle (16 elements each),
  // key and value (8 each), and an lse for each of two heads. Every View is a little larger than what it holds.
  const double expected = 16 * (many.parameters - few.parameters) + 20 * 4 * 101 * (4 * 16 + 2 * 8 + 2);
  CHECK(many.peak - few.peak >= expected);
  CHECK(many.peak - few.peak <= 1.01 * expected + 20 * 7 * 256);
}

TEST_CASE("a longer context on more ranks needs no more memory on each") {
  const auto peak = [](const char* context, const char* ranks) {
    const Workplace place(code_like_text(30'000));
    REQUIRE(place.run({"--context", context, "--ranks", ranks, "--metrics", "run.jsonl", "--steps", "2"}).status == 0);
    return read_metrics(place.file("run.jsonl")).back()["peak_bytes"].get<double>();
  };
  const double one = peak("2000", "1");
  const double four = peak("8000", "4");
  CHECK(four < 1.02 * one);
  CHECK(peak("8000", "1") > 2 * one);
}

TEST_CASE("elsewhere than on a terminal the program writes a plain line a step") {
  const Workplace place;
  const ProcessResult result = place.run({"--ranks", "2"});
  INFO(result.output);
  REQUIRE(result.status == 0);
  CHECK(result.output.find('\r') == std::string::npos);
  CHECK(result.output.find('\x1b') == std::string::npos);
  for (int step = 1; step <= 9; ++step) {
    CHECK(count(result.output, "\nstep " + std::to_string(step) + "/9  loss ") == 1);
  }
  CHECK(count(result.output, " tokens/s  peak ") == 9);
  CHECK(count(result.output, " MiB a rank  waiting ") == 9);
}

TEST_CASE("on a terminal the program draws over one line, however narrow that is") {
  for (const int columns : {40, 80, 200}) {
    const Workplace place;
    const ProcessResult result = place.run({"--ranks", "2"}, Screen{columns});
    INFO(result.output);
    REQUIRE(result.status == 0);
    CHECK(count(result.output, "\r\x1b[K[") == 9);
    CHECK(count(result.output, "\r\x1b[K[##..................]") == 1);
    CHECK(count(result.output, "\r\x1b[K[####################]") == 1);
    const std::size_t last = result.output.rfind("\r\x1b[K");
    const std::string line = result.output.substr(last + 4, result.output.find_first_of("\r\n", last + 4) - last - 4);
    CHECK(static_cast<int>(line.size()) < columns);
    CHECK_THAT(line, ContainsSubstring("step 9/9"));
    if (columns >= 80) CHECK_THAT(line, ContainsSubstring("loss ") && ContainsSubstring("0:00 left"));
    if (columns >= 200) CHECK_THAT(line, ContainsSubstring("tokens/s") && ContainsSubstring("MiB a rank  waiting "));
  }
}

TEST_CASE("the summary says the losses that the metrics hold, and both held-out losses") {
  const Workplace place;
  const ProcessResult result = place.run({"--ranks", "2", "--metrics", "run.jsonl"});
  INFO(result.output);
  REQUIRE(result.status == 0);
  const std::vector<double> losses = read_losses(place.file("run.jsonl"));
  char text[100];
  std::snprintf(text, sizeof text, "loss: %.4f at step 1, %.4f at step 9", losses.front(), losses.back());
  CHECK_THAT(result.output, ContainsSubstring(text));
  const double with_ring = number_after(result.output, "held-out text: ");
  CHECK(with_ring == Catch::Approx(losses.back()).epsilon(0.1));
  CHECK(number_after(result.output, "with the ring, ") != with_ring);
  CHECK_THAT(result.output, ContainsSubstring("every 2. byte before it"));

  // One rank holds everything: there is nothing to be cut off from.
  const ProcessResult alone = place.run({"--ranks", "1"});
  CHECK(number_after(alone.output, "held-out text: ") == Catch::Approx(with_ring).epsilon(1e-4));
  CHECK(alone.output.find("cut off") == std::string::npos);
}

TEST_CASE("a text that repeats itself is learnt, and the prompt is continued as it goes on") {
  std::string text;
  while (text.size() < 4000) text += "abcdefg\n";
  const Workplace place(text);
  const std::vector<std::string> learn{"--ranks",  "2", "--steps",       "60", "--learning-rate", "0.02",
                                       "--layers", "1", "--temperature", "0",  "--checkpoint",    "run.ck"};
  auto options = learn;
  options.insert(options.end(), {"--prompt", "g\nabc", "--sample", "40"});
  const ProcessResult result = place.run(options);
  REQUIRE(result.status == 0);
  CHECK(number_after(result.output, "held-out text: ") < 0.5);
  CHECK(sample_of(result.output) == "g\nabcdefg\nabcdefg\nabcdefg\nabcdefg\nabcdefg\nabc");

  // A prompt that is longer than the context, and one that a terminal cannot show.
  options = learn;
  std::string prompt = text.substr(0, 300);
  options.insert(options.end(), {"--resume", "--prompt", prompt, "--sample", "6"});
  CHECK(sample_of(place.run(options).output) == prompt + "efg\nab");
  options = learn;
  options.insert(options.end(), {"--resume", "--prompt", "\x1b\xff", "--sample", "0"});
  CHECK(place.run(options).output.find("----") == std::string::npos);
  options.back() = "1";
  CHECK(sample_of(place.run(options).output).substr(0, 8) == "\\x1b\\xff");
}

TEST_CASE("a sample depends on the seed, and on nothing else") {
  const Workplace place;
  const auto sample = [&](const char* seed, const char* ranks) {
    return sample_of(place.run({"--seed", seed, "--ranks", ranks, "--sample", "50", "--steps", "2"}).output);
  };
  const std::string first = sample("1", "2");
  CHECK(first.substr(0, 9) == "template ");
  CHECK(sample("1", "2") == first);
  CHECK(sample("2", "2") != first);
}

TEST_CASE("the extensions choose the files") {
  const Workplace place;
  CHECK_THAT(place.run({"--steps", "1"}).output, ContainsSubstring("in 2 files of"));
  CHECK_THAT(place.run({"--steps", "1", "--extensions", ".hpp,.txt"}).output, ContainsSubstring("in 3 files of"));
  CHECK_THAT(place.run({"--steps", "1", "--all-files"}).output, ContainsSubstring("in 3 files of"));
}
