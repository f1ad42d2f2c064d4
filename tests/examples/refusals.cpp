// What the program train refuses: options, directories, files and checkpoints that it cannot use, each with the reason.
#include "train_program.hpp"

#include <catch2/catch_message.hpp>
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

namespace {

using namespace rondo::test;
using Catch::Matchers::ContainsSubstring;

using Words = std::vector<std::string>;

/// The program ends with an error that says so, before the first step.
void check_refused(const ProcessResult& result, const std::string& reason) {
  INFO(result.output);
  CHECK(result.status > 0);
  CHECK_THAT(result.output, ContainsSubstring(reason));
  CHECK(result.output.find("step 1/") == std::string::npos);
}

struct Refused {
  Words options;
  std::string reason;
};

/// A checkpoint after four of nine steps, with its parts.
class Checkpoint {
 public:
  explicit Checkpoint(const Workplace& place) : place_(place) {
    REQUIRE(place.run({"--ranks", "2", "--stop-after", "4", "--checkpoint", "run.ck"}).status == 0);
    bytes_ = read_file(place.file("run.ck"));
    std::memcpy(&header_size_, bytes_.data() + 8, sizeof header_size_);
    REQUIRE(bytes_.size() > start_of_numbers());
    REQUIRE_FALSE(nlohmann::json::parse(header(), nullptr, false).is_discarded());
  }

  const std::string& bytes() const { return bytes_; }
  std::string header() const { return bytes_.substr(16, header_size_); }
  std::size_t start_of_numbers() const { return 16 + header_size_; }

  /// With another header in front of the numbers.
  std::string with_header(const std::string& header) const {
    const auto length = static_cast<std::uint64_t>(header.size());
    std::string size(sizeof length, '\0');
    std::memcpy(size.data(), &length, sizeof length);
    return bytes_.substr(0, 8) + size + header + bytes_.substr(start_of_numbers());
  }

  /// What the program makes of a file with these bytes in the checkpoint's place.
  ProcessResult resume(const std::string& bytes, const Words& options = {}) const {
    write_file(place_.file("run.ck"), bytes);
    Words words{"--ranks", "2", "--resume", "--checkpoint", "run.ck"};
    words.insert(words.end(), options.begin(), options.end());
    return place_.run(words);
  }

 private:
  const Workplace& place_;
  std::string bytes_;
  std::uint64_t header_size_ = 0;
};

}  // namespace

TEST_CASE("options that make no sense are refused with the number that was given") {
  const Workplace place;
  const Refused cases[] = {
      {{"--context", "0"}, "--context is 0, it must be at least 1"},
      {{"--layers", "0"}, "--layers is 0, it must be at least 1"},
      {{"--dim", "-4"}, "--dim is -4, it must be at least 1"},
      {{"--heads", "0"}, "--heads is 0, it must be at least 1"},
      {{"--kv-heads", "-1"}, "--kv-heads is -1, it must be at least 0"},
      {{"--hidden", "-1"}, "--hidden is -1, it must be at least 0"},
      {{"--ranks", "0"}, "--ranks is 0, it must be at least 1"},
      {{"--chunk", "0"}, "--chunk is 0, it must be at least 1"},
      {{"--data-parallel", "0"}, "--data-parallel is 0, it must be at least 1"},
      {{"--batch", "-1"}, "--batch is -1, it must be at least 0"},
      {{"--ranks", "3", "--data-parallel", "2"},
       "--data-parallel is 2, and there are 3 ranks: they must be a multiple of it"},
      {{"--ranks", "4", "--data-parallel", "2", "--batch", "3"},
       "--batch is 3, --data-parallel is 2: the batch must be a multiple"},
      {{"--steps", "0"}, "--steps is 0, it must be at least 1"},
      {{"--warmup", "-1"}, "--warmup is -1, it must be at least 0"},
      {{"--learning-rate", "-0.5"}, "--learning-rate is -0.5"},
      {{"--learning-rate", "nan"}, "--learning-rate is nan"},
      {{"--weight-decay", "-1"}, "--weight-decay is -1"},
      {{"--clip", "0"}, "--clip is 0"},
      {{"--checkpoint-every", "0"}, "--checkpoint-every is 0, it must be at least 1"},
      {{"--stop-after", "-1"}, "--stop-after is -1, it must be at least 0"},
      {{"--sample", "-1"}, "--sample is -1, it must be at least 0"},
      {{"--temperature", "-1"}, "--temperature is -1"},
      {{"--deadline", "0"}, "--deadline is 0"},
      {{"--dim", "10", "--heads", "4"}, "--dim is 10, --heads is 4: dim must be a multiple of heads"},
      {{"--dim", "6", "--heads", "2"}, "a head has 3 elements, and rotary positions turn them in pairs"},
      {{"--heads", "4", "--kv-heads", "3"}, "--heads is 4, --kv-heads is 3: heads must be a multiple of kv-heads"},
      {{"--sharding", "round"}, "--sharding is round, it must be contiguous, striped or zigzag"},
      {{"--recompute", "all"},
       "there is no choice of what to recompute all; there are layers, all-but-attention, nothing"},
      {{"--resume"}, "--resume needs --checkpoint FILE"},
      {{"--rank", "3"}, "--rank"},
      {{"--steps", "many"}, "--steps"},
  };
  for (const Refused& refused : cases) check_refused(place.run(refused.options), refused.reason);
}

TEST_CASE("a text that is missing or too short is refused with its size") {
  const Workplace place;
  std::filesystem::create_directories(place.file("empty"));
  const auto with_directory = [&](const std::string& directory) {
    Words words = place.command();
    words[1] = directory;
    return run_process(words, place.files.path());
  };
  check_refused(with_directory("empty"), "the directory empty holds no files to learn from");
  check_refused(with_directory("nowhere"), "there is no directory nowhere");
  check_refused(with_directory("text/a.hpp"), "there is no directory text/a.hpp");
  check_refused(place.run({"--extensions", ".py"}), "holds no files to learn from (ending in .py)");
  check_refused(place.run({"--context", "2100"}), "the text has 60");
  check_refused(place.run({"--context", "2100"}), "a context of 2100 needs 6303");
}

TEST_CASE("files that cannot be written are refused before the first step") {
  const Workplace place;
  check_refused(place.run({"--metrics", "no/such/folder.jsonl"}),
                "the metrics file no/such/folder.jsonl cannot be written");
  check_refused(place.run({"--checkpoint", "no/such/run.ck"}), "the checkpoint no/such/run.ck cannot be written");
  check_refused(place.run({"--checkpoint", "text"}), "the checkpoint text cannot be written");
}

TEST_CASE("a training that diverges is stopped with advice") {
  const Workplace place;
  const ProcessResult result = place.run({"--learning-rate", "1e30", "--clip", "1e30", "--warmup", "0"});
  INFO(result.output);
  CHECK(result.status == 1);
  CHECK_THAT(result.output,
             ContainsSubstring("is no number: the training has diverged, try a smaller --learning-rate"));
}

TEST_CASE("a checkpoint that is missing, foreign, cut short or damaged is refused with the reason") {
  const Workplace place;
  check_refused(place.run({"--resume", "--checkpoint", "none.ck"}), "the checkpoint none.ck cannot be opened");
  const Checkpoint checkpoint(place);
  const std::string& whole = checkpoint.bytes();
  const std::size_t size = whole.size();

  // First, that what the program refuses below is what was done to the file.
  CHECK(checkpoint.resume(whole).status == 0);

  const std::string foreign = "the checkpoint run.ck is not a checkpoint of this program";
  check_refused(checkpoint.resume(""), foreign);
  check_refused(checkpoint.resume("a letter to someone, longer than the mark"), foreign);
  check_refused(checkpoint.resume(whole.substr(0, 12)), foreign);

  const std::string unread = "the checkpoint run.ck is damaged: its header cannot be read";
  check_refused(checkpoint.resume(whole.substr(0, checkpoint.start_of_numbers() - 5)), unread);
  check_refused(checkpoint.resume(checkpoint.with_header("{\"step\": ")), unread);
  check_refused(checkpoint.resume(checkpoint.with_header("[]")), unread);
  check_refused(checkpoint.resume(checkpoint.with_header("{}")), unread);
  check_refused(checkpoint.resume(checkpoint.with_header("{\"step\": \"four\", \"recipe\": {}}")), unread);
  std::string endless = whole;
  endless.replace(8, 8, std::string(8, '\x7f'));  // the length of the header
  check_refused(checkpoint.resume(endless), unread);

  const auto bytes = [](std::size_t n) { return "it has " + std::to_string(n) + " bytes"; };
  const std::string needed = "needed are " + std::to_string(size);
  check_refused(checkpoint.resume(whole.substr(0, size - 1)), bytes(size - 1) + ", " + needed);
  check_refused(checkpoint.resume(whole.substr(0, checkpoint.start_of_numbers())), needed);
  check_refused(checkpoint.resume(whole + '\0'), bytes(size + 1) + ", " + needed);

  const std::string changed = "the checkpoint run.ck is damaged: its numbers are not those that were written";
  for (const std::size_t place_of_fault :
       {checkpoint.start_of_numbers(), (checkpoint.start_of_numbers() + size) / 2, size - 1}) {
    std::string flipped = whole;
    flipped[place_of_fault] = static_cast<char>(flipped[place_of_fault] ^ 1);
    check_refused(checkpoint.resume(flipped), changed);
  }
  nlohmann::ordered_json later = nlohmann::ordered_json::parse(checkpoint.header());
  later["step"] = 5;
  check_refused(checkpoint.resume(checkpoint.with_header(later.dump())), changed);
}

TEST_CASE("a checkpoint of another run is refused, naming what differs") {
  const Workplace place;
  const Checkpoint checkpoint(place);
  const Refused cases[] = {
      {{"--context", "100"}, "context is 101 there and 100 here"},
      {{"--steps", "10"}, "steps is 9 there and 10 here"},
      {{"--seed", "2"}, "seed is 1 there and 2 here"},
      {{"--layers", "1"}, "layers is 2 there and 1 here"},
      {{"--heads", "4", "--kv-heads", "2"}, "heads is 2 there and 4 here, kv-heads is 1 there and 2 here"},
      {{"--dim", "32"}, "dim is 16 there and 32 here"},
      {{"--hidden", "16"}, "hidden is 24 there and 16 here"},
      {{"--tied"}, "tied is false there and true here"},
      {{"--learning-rate", "0.5"}, "learning-rate is 0.004 there and 0.5 here"},
      {{"--warmup", "3"}, "warmup is 10 there and 3 here"},
      {{"--weight-decay", "0"}, "weight-decay is 0.1 there and 0.0 here"},
      {{"--clip", "2"}, "clip is 1.0 there and 2.0 here"},
      {{"--extensions", ".txt,.hpp"}, "bytes of text is"},
  };
  for (const Refused& refused : cases) {
    check_refused(checkpoint.resume(checkpoint.bytes(), refused.options), refused.reason);
    const bool untouched = read_file(place.file("run.ck")) == checkpoint.bytes();
    CHECK(untouched);
  }
  // A text of the same size that differs in one byte.
  std::string text = read_file(place.file("text/a.hpp"));
  text[100] = text[100] == 'x' ? 'y' : 'x';
  write_file(place.file("text/a.hpp"), text);
  check_refused(checkpoint.resume(checkpoint.bytes()), "fingerprint of the text is");
}
