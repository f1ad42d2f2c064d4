// What attend refuses: options and tensors that it cannot use, each with the reason and the numbers; nothing is written then.
#include "attend_program.hpp"

#include <catch2/catch_message.hpp>
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

namespace {

using namespace rondo::test;
using Catch::Matchers::ContainsSubstring;

using Words = std::vector<std::string>;
using Shape = std::vector<std::int64_t>;

constexpr Extents extents{.batch = 2, .heads = 4, .kv_heads = 2, .head_dim = 3, .tokens = 7};

std::vector<FileTensor> sound() {
  std::vector<FileTensor> tensors = file_tensors(random_inputs<float>(extents), safetensors::F32);
  tensors.push_back(file_tensor("segment_ids", safetensors::I32, {2, 7}, std::vector<std::int32_t>(14, 5)));
  return tensors;
}

void check_refused(const AttendWorkplace& place, const Words& options, const std::string& reason) {
  const ProcessResult result = place.run(options);
  INFO(result.output);
  CHECK(result.status > 0);
  CHECK_THAT(result.output, ContainsSubstring(reason));
  CHECK_FALSE(std::filesystem::exists(place.file("out.safetensors")));
  CHECK_FALSE(std::filesystem::exists(place.file("out.safetensors.unfinished")));
}

/// Runs with one tensor in place of the sound one of its name.
void check_refused_with(const FileTensor& tensor, const Words& options, const std::string& reason) {
  std::vector<FileTensor> tensors = sound();
  std::erase_if(tensors, [&](const FileTensor& other) { return other.name == tensor.name; });
  tensors.push_back(tensor);
  check_refused(AttendWorkplace(tensors), options, reason);
}

/// A tensor of zeros.
FileTensor zeros(const std::string& name, const safetensors::Dtype& dtype, const Shape& shape) {
  std::size_t bytes = dtype.bytes;
  for (const std::int64_t extent : shape) bytes *= static_cast<std::size_t>(extent);
  return {name, dtype, shape, std::vector<std::byte>(bytes)};
}

}  // namespace

TEST_CASE("options that make no sense are refused with what was given") {
  const AttendWorkplace place(sound());
  REQUIRE(place.run({"--mask", "document"}).status == 0);  // so that what is refused below is what was changed
  std::filesystem::remove(place.file("out.safetensors"));

  check_refused(place, {"--ranks", "0"}, "--ranks is 0, it must be at least 1");
  check_refused(place, {"--ranks", "two"}, "--ranks");
  check_refused(place, {"--chunk", "-3"}, "--chunk is -3, it must be at least 1");
  check_refused(place, {"--threads", "0"}, "--threads is 0, it must be at least 1");
  check_refused(place, {"--deadline", "0"}, "--deadline is 0, it must be positive and finite");
  check_refused(place, {"--comm", "smoke"}, "--comm is smoke, it must be threads or mpi");
  check_refused(place, {"--sharding", "spiral"}, "--sharding is spiral, it must be contiguous, striped or zigzag");
  check_refused(place, {"--dtype", "f8"}, "--dtype is f8, it must be f64, f32, bf16 or f16");
  check_refused(place, {"--softcap", "0"}, "--softcap is 0, it must be positive and finite");
  check_refused(place, {"--softcap", "inf"}, "--softcap is inf, it must be positive and finite");
  check_refused(place, {"--dropout", "1", "--seed", "3"}, "--dropout is 1, it must be from 0 to below 1");
  check_refused(place, {"--dropout", "-0.1", "--seed", "3"}, "--dropout is -0.1, it must be from 0 to below 1");
  check_refused(place, {"--dropout", "0.5", "--seed", "-3"}, "--seed is -3, it must be at least 0");
  check_refused(place, {"--scale", "nan"}, "--scale is nan, it must be finite");
  check_refused(place, {"--scale", "inf"}, "--scale is inf, it must be finite");
  check_refused(place, {"--nonsense"}, "--nonsense");
  check_refused(place, {"third.safetensors"}, "third.safetensors");
}

TEST_CASE("masks that are not understood are refused") {
  const AttendWorkplace place(sound());
  for (const char* mask : {"", "Causal", "diagonal", "causal:3", "full:", "document:1"}) {
    check_refused(place, {"--mask", mask}, "--mask " + std::string(mask) + " is not known");
  }
  for (const char* numbers :
       {"", ":", ":3", ":3,", ":3,4,5", ":-1,2", ":3,-1", ":3, 4", ":1e3,1", ":a,b", ":9999999999999999999,1"}) {
    check_refused(place, {"--mask", "window" + std::string(numbers)}, "is not understood: it must be window:L,R");
  }
  check_refused(place, {"--mask", "prefix:"}, "--mask prefix: is not understood: it must be prefix:P");
  check_refused(place, {"--mask", "prefix:3,4"}, "it must be prefix:P");
  check_refused(place, {"--mask", "chunked:0"}, "--mask chunked:0: the length is 0, it must be at least 1");
  check_refused(place, {"--mask", "causal", "--mask", "chunked:x"}, "it must be chunked:C");
  Words many;
  for (int i = 2; i < 9; ++i) many.insert(many.end(), {"--mask", "chunked:" + std::to_string(i)});
  check_refused(place, many, "7 parts, there is room for 6");
}

TEST_CASE("tensors that are missing or do not fit are refused with their shapes") {
  const auto F32 = safetensors::F32;
  for (const char* name : {"q", "k", "v"}) {
    std::vector<FileTensor> tensors = sound();
    std::erase_if(tensors, [&](const FileTensor& tensor) { return tensor.name == name; });
    check_refused(AttendWorkplace(tensors), {}, "the file has no tensor " + std::string(name));
  }
  check_refused_with(zeros("q", F32, {7, 4, 3}), {},
                     "q has shape [7, 4, 3], needed is [batch, sequence, heads, head_dim]");
  check_refused_with(zeros("q", safetensors::I32, {2, 7, 4, 3}), {}, "q is I32, needed is F64, F32, BF16 or F16");
  check_refused_with(zeros("k", F32, {2, 7, 1, 3}), {},
                     "k has shape [2, 7, 1, 3], v has [2, 7, 2, 3]: heads must be equal");
  check_refused_with(zeros("v", F32, {2, 6, 2, 3}), {},
                     "k has shape [2, 7, 2, 3], v has [2, 6, 2, 3]: sequence must be equal");
  check_refused_with(zeros("v", F32, {2, 7, 2, 0}), {}, "v has shape [2, 7, 2, 0]: its head_dim must be at least 1");
  check_refused_with(zeros("v", F32, {2, 7, 2, 4}), {},
                     "grad_out has shape [2, 7, 4, 3], v has [2, 7, 2, 4]: head_dim must be equal");
  check_refused_with(zeros("q", F32, {1, 7, 4, 3}), {},
                     "q has shape [1, 7, 4, 3], k has [2, 7, 2, 3]: batch must be equal");
  check_refused_with(zeros("q", F32, {2, 7, 4, 5}), {}, "k has [2, 7, 2, 3]: head_dim must be equal");
  check_refused_with(zeros("grad_out", F32, {2, 7, 2, 3}), {},
                     "grad_out has shape [2, 7, 2, 3], q has [2, 7, 4, 3]: heads must be equal");
  check_refused_with(zeros("k", safetensors::BF16, {2, 7, 2, 3}), {},
                     "q is F32, k is BF16: say with --dtype what to compute in");

  const auto with_heads = [](std::int64_t heads, std::int64_t kv_heads) {
    return std::vector<FileTensor>{zeros("q", safetensors::F32, {1, 7, heads, 3}),
                                   zeros("k", safetensors::F32, {1, 7, kv_heads, 3}),
                                   zeros("v", safetensors::F32, {1, 7, kv_heads, 3})};
  };
  check_refused(AttendWorkplace(with_heads(4, 3)), {},
                "heads is 4, kv_heads is 3: heads must be a multiple of kv_heads");
  check_refused(AttendWorkplace(with_heads(0, 1)), {}, "heads is 0, it must be at least 1");
  check_refused(AttendWorkplace(with_heads(4, 0)), {}, "k has shape [1, 7, 0, 3]: it must have at least 1 head");
}

TEST_CASE("segment_ids that are missing, misshapen or fall are refused") {
  const Words document{"--mask", "document"};
  std::vector<FileTensor> tensors = sound();
  tensors.pop_back();
  check_refused(AttendWorkplace(tensors), document, "--mask document needs the tensor segment_ids in the file");
  check_refused_with(zeros("segment_ids", safetensors::F32, {2, 7}), document, "segment_ids is F32, needed is I32");
  check_refused_with(zeros("segment_ids", safetensors::I32, {7}), document,
                     "segment_ids has shape [7], needed is [batch, sequence] = [2, 7]");
  const std::vector<std::int32_t> falling{1, 1, 1, 1, 2, 2, 2, -5, -5, 0, 0, 4, 4, 3};
  for (const Words& options : {document, Words{}}) {
    check_refused_with(file_tensor("segment_ids", safetensors::I32, {2, 7}, falling), options,
                       "segment_ids, batch entry 1: document ids: token 6 has 3, the one before 4");
  }
}

TEST_CASE("lengths and sinks that are missing or do not fit are refused") {
  const Words padding{"--mask", "padding"};
  check_refused(AttendWorkplace(sound()), padding, "--mask padding needs the tensor lengths in the file");
  const auto with = [](const FileTensor& tensor) {
    std::vector<FileTensor> tensors = sound();
    tensors.push_back(tensor);
    return AttendWorkplace(tensors);
  };
  const auto lengths = [](const Shape& shape, const std::vector<std::int32_t>& values) {
    return file_tensor("lengths", safetensors::I32, shape, values);
  };
  REQUIRE(with(lengths({2}, {7, 0})).run(padding).status == 0);
  for (const Words& options : {padding, Words{}}) {
    check_refused(with(zeros("lengths", safetensors::F32, {2})), options, "lengths is F32, needed is I32");
    check_refused(with(lengths({3}, {1, 2, 3})), options, "lengths has shape [3], needed is [batch] = [2]");
    check_refused(with(lengths({2}, {1, 8})), options,
                  "lengths, batch entry 1: 8, it must be from 0 to the 7 keys there are");
    check_refused(with(lengths({2}, {-1, 3})), options, "lengths, batch entry 0: -1, it must be from 0");
  }
  check_refused(with(zeros("sinks", safetensors::F32, {2})), {}, "sinks has shape [2], needed is [heads] = [4]");
  check_refused(with(zeros("sinks", safetensors::I32, {4})), {}, "sinks is I32, needed is F64, F32, BF16 or F16");
}

TEST_CASE("files that cannot be read or written are refused, and no output is left behind") {
  const AttendWorkplace place(sound());
  const auto run = [&](const std::string& in, const std::string& out) {
    return run_process({ATTEND_PROGRAM, in, out, "--ranks", "2"}, place.files.path());
  };
  const auto refused = [&](const std::string& in, const std::string& out, const std::string& reason) {
    const ProcessResult result = run(in, out);
    CHECK(result.status > 0);
    CHECK_THAT(result.output, ContainsSubstring(reason));
  };
  refused("none", "out", "the file none cannot be opened: No such file or directory");
  refused("in.safetensors", "no/such/folder/out", "cannot be written: No such file or directory");
  write_file(place.file("short"), read_file(place.file("in.safetensors")).substr(0, 900));
  refused("short", "out", "short is no sound safetensors file: tensor ");
  write_file(place.file("letter"), "a letter to someone");
  refused("letter", "out", "letter is no sound safetensors file: a header of ");
  CHECK(std::distance(std::filesystem::directory_iterator(place.files.path()), {}) == 3);

  // The results may take the place of the tensors.
  CHECK(run("in.safetensors", "in.safetensors").status == 0);
  CHECK(safetensors::Input(place.file("in.safetensors")).header().find("grad_q") != nullptr);
}
