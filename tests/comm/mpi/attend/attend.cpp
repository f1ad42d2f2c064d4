// examples/attend over processes: the numbers that the program gives over threads, and errors that end all processes.
#include <cstdlib>
#define ATTEND_PROGRAM std::getenv("ATTEND_PROGRAM")
#include "../../../examples/attend_program.hpp"

#include <catch2/catch_message.hpp>
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include <cmath>
#include <cstdint>
#include <sstream>
#include <string>
#include <vector>

namespace {

using namespace rondo::test;
using Catch::Matchers::ContainsSubstring;

using Words = std::vector<std::string>;

constexpr Extents extents{.batch = 2, .heads = 4, .kv_heads = 2, .head_dim = 6, .tokens = 50, .value_dim = 9};

AttendWorkplace workplace() {
  std::vector<FileTensor> tensors = file_tensors(random_inputs<float>(extents), safetensors::F32);
  std::vector<std::int32_t> ids;
  for (std::int32_t token = 0; token < 2 * 50; ++token) ids.push_back(token / 17);
  tensors.push_back(file_tensor("segment_ids", safetensors::I32, {2, 50}, ids));
  tensors.push_back(file_tensor("sinks", safetensors::F32, {4}, std::vector<float>{0.5f, -1, 2, 0}));
  return AttendWorkplace(tensors);
}

/// The launcher's command, then attend's.
ProcessResult over_mpi(const AttendWorkplace& place, const std::string& in, const std::string& out,
                       const Words& options) {
  std::istringstream launcher(std::getenv("ATTEND_LAUNCH"));
  Words words;
  for (std::string word; std::getline(launcher, word, '|');) words.push_back(word);
  words.insert(words.end(), {in, out, "--comm", "mpi", "--deadline", "20"});
  words.insert(words.end(), options.begin(), options.end());
  return run_process(words, place.files.path());
}

}  // namespace

TEST_CASE("over processes attend gives the numbers that it gives over threads") {
  const AttendWorkplace place = workplace();
  for (const Words& options : {Words{"--mask", "causal", "--sharding", "striped", "--chunk", "7"},
                               Words{"--mask", "document", "--mask", "window:20,3", "--softcap", "2"},
                               Words{"--dropout", "0.3", "--seed", "5", "--alibi", "--sharding", "zigzag"}}) {
    const ProcessResult threads = place.run(options);
    INFO(threads.output);
    REQUIRE(threads.status == 0);
    const ProcessResult processes = over_mpi(place, "in.safetensors", "mpi.safetensors", options);
    INFO(processes.output);
    REQUIRE(processes.status == 0);
    const safetensors::Input one(place.file("out.safetensors")), other(place.file("mpi.safetensors"));
    REQUIRE(one.header().tensors.size() == 6);  // with the gradient of the sinks
    for (const safetensors::Entry& tensor : one.header().tensors) {
      const std::vector<double> a = read_numbers(one, tensor.name), b = read_numbers(other, tensor.name);
      REQUIRE(a.size() == b.size());
      double largest = 0, difference = 0;
      for (std::size_t i = 0; i < a.size(); ++i) {
        largest = std::max(largest, std::abs(a[i]));
        difference = std::max(difference, a[i] == b[i] ? 0 : std::abs(a[i] - b[i]));
      }
      INFO(tensor.name);
      CHECK(largest > 0.1);
      CHECK(difference <= 1e-5 * largest);
    }
  }
}

TEST_CASE("what one process finds wrong ends them all, with the reason and without a file") {
  const AttendWorkplace place = workplace();
  const auto refused = [&](const std::string& in, const Words& options, const std::string& reason) {
    const ProcessResult result = over_mpi(place, in, "refused.safetensors", options);
    CHECK(result.status > 0);
    CHECK_THAT(result.output, ContainsSubstring(reason));
    CHECK_FALSE(std::filesystem::exists(place.file("refused.safetensors")));
  };
  refused("in.safetensors", {"--ranks", "2"}, "--ranks is 2, mpiexec has started 3 processes");
  refused("in.safetensors", {"--mask", "padding"}, "--mask padding needs the tensor lengths in the file");
  refused("none", {}, "the file none cannot be opened");
}
