// The reader and writer of safetensors files: what is written is read again, what is malformed is refused with the reason,
// and no mutation of a sound file makes it do anything else.
#include "../../examples/attend/safetensors.hpp"
#include "../../examples/attend/mapped_file.hpp"

#include <support/temporary_directory.hpp>

#include <catch2/catch_message.hpp>
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers.hpp>
#include <catch2/matchers/catch_matchers_exception.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <vector>

namespace {

using namespace rondo::test;
using Catch::Matchers::ContainsSubstring;
using Catch::Matchers::MessageMatches;
using safetensors::Entry;
using safetensors::Header;

/// A file of these parts, whether they fit or not.
std::string file_of(const std::string& header, std::size_t data, std::uint64_t length) {
  std::string file(sizeof length, '\0');
  std::memcpy(file.data(), &length, sizeof length);
  return file + header + std::string(data, 'x');
}
std::string file_of(const std::string& header, std::size_t data) { return file_of(header, data, header.size()); }

Header parse(const std::string& file) { return safetensors::parse_header(std::as_bytes(std::span(file))); }

void check_refused(const std::string& file, const std::string& reason) {
  INFO(file.substr(0, 300));
  CHECK_THROWS_MATCHES(parse(file), safetensors::refusal, MessageMatches(ContainsSubstring(reason)));
}

std::string tensor(const std::string& name, const std::string& dtype, const std::string& shape,
                   const std::string& offsets) {
  return "\"" + name + "\":{\"dtype\":" + dtype + ",\"shape\":" + shape + ",\"data_offsets\":" + offsets + "}";
}

/// Three tensors of 24, 16 and 0 bytes.
std::string sound_file() {
  return file_of("{\"__metadata__\":{\"made by\":\"hand\"}," + tensor("b", "\"F64\"", "[2]", "[24,40]") + "," +
                     tensor("a", "\"F32\"", "[2,3]", "[0,24]") + "," + tensor("none", "\"I32\"", "[3,0]", "[40,40]") +
                     "}",
                 40);
}

/// What has to hold for a header that is not refused, worked out without the reader's own code.
void check_sound(const Header& header, const std::string& file) {
  std::vector<int> covered(file.size() - header.data, 0);
  for (const Entry& entry : header.tensors) {
    double size = static_cast<double>(entry.dtype.bytes);
    for (const std::int64_t extent : entry.shape) size *= static_cast<double>(extent);
    if (size != static_cast<double>(entry.end - entry.begin)) FAIL("the size of a tensor is not its shape's");
    for (std::uint64_t byte = entry.begin; byte < entry.end; ++byte) ++covered.at(byte);
  }
  for (const int times : covered) {
    if (times != 1) FAIL("a byte belongs to " << times << " tensors");
  }
}

/// Changes a file as files get damaged, and as someone who wants to break the reader would.
std::string mutated(std::string file, std::mt19937_64& random) {
  static const std::string numbers[] = {"0",
                                        "-1",
                                        "1",
                                        "8",
                                        "40",
                                        "4294967296",
                                        "18446744073709551615",
                                        "18446744073709551616",
                                        "9223372036854775807",
                                        "1e3",
                                        "0.5",
                                        "null",
                                        "[]",
                                        "{}",
                                        "\"\"",
                                        "[[[["};
  static const std::string words[] = {"F64",          "F16",  "BF16", "I32", "U8", "dtype", "shape", "data_offsets",
                                      "__metadata__", "\"",   ",",    "{",   "}",  "[",     "]",     ":",
                                      "\\u0000",      "\xff", " "};
  const auto below = [&](std::size_t n) { return n == 0 ? 0 : static_cast<std::size_t>(random() % n); };
  const std::size_t times = 1 + below(3);
  for (std::size_t i = 0; i < times; ++i) {
    const std::size_t at = below(file.size());
    switch (below(7)) {
      case 0:
        if (!file.empty()) file[at] = static_cast<char>(file[at] ^ (1 << below(8)));
        break;
      case 1:
        file.resize(at);
        break;
      case 2:
        file.insert(at, std::string(1 + below(9), static_cast<char>(random())));
        break;
      case 3:
        file.erase(at, 1 + below(9));
        break;
      case 4: {  // another number in place of one
        const std::size_t digit = file.find_first_of("0123456789", std::max<std::size_t>(at, 8));
        if (digit == std::string::npos) break;
        const std::size_t end = file.find_first_not_of("0123456789", digit);
        file.replace(digit, end == std::string::npos ? end : end - digit, numbers[below(std::size(numbers))]);
        break;
      }
      case 5:
        file.insert(at, words[below(std::size(words))]);
        break;
      default:  // a part of it again, or a length that fits again
        file.insert(at, file.substr(below(file.size()), below(60)));
    }
    if (below(2) == 0 && file.size() > 8) {
      const std::size_t end = file.find_last_of('}');
      const std::uint64_t length = end == std::string::npos || end < 8 ? file.size() - 8 : end + 1 - 8;
      std::memcpy(file.data(), &length, sizeof length);
    }
  }
  return file;
}

}  // namespace

TEST_CASE("a sound file is read: names, types, shapes, places and metadata") {
  const std::string file = sound_file();
  const Header header = parse(file);
  check_sound(header, file);
  REQUIRE(header.tensors.size() == 3);
  CHECK(header.metadata.at("made by") == "hand");
  const Entry& b = *header.find("b");
  CHECK(b.dtype == safetensors::F64);
  CHECK(b.shape == std::vector<std::int64_t>{2});
  CHECK(b.begin == 24);
  CHECK(header.find("none")->shape == std::vector<std::int64_t>{3, 0});
  CHECK(header.find("c") == nullptr);
  CHECK(parse(file_of("{}", 0)).tensors.empty());
  CHECK(parse(file_of("{" + tensor("s", "\"F16\"", "[]", "[0,2]") + "}   ", 2)).tensors.at(0).shape.empty());
}

TEST_CASE("a malformed file is refused with the reason and its numbers") {
  const auto one = [](const std::string& dtype, const std::string& shape, const std::string& offsets,
                      std::size_t data) { return file_of("{" + tensor("t", dtype, shape, offsets) + "}", data); };
  check_refused("", "the file has 0 bytes, the length of the header alone needs 8");
  check_refused("1234567", "the file has 7 bytes");
  check_refused(file_of("{}", 0, 3), "a header of 3 bytes, the file has 2 behind its length");
  check_refused(file_of("{}", 0, 100'000'001), "a header of 100000001 bytes: at most 100000000 are read");
  check_refused(file_of("{}", 0, ~std::uint64_t{0}), "a header of 18446744073709551615 bytes");
  check_refused(file_of("", 4), "does not begin with {");
  check_refused(file_of(" {}", 0), "does not begin with {");
  check_refused(file_of("[]", 0), "does not begin with {");
  check_refused(file_of("{\"a\":", 0), "the header is no JSON");
  check_refused(file_of("{\"\xff\":1}", 0), "the header is no JSON");
  check_refused(file_of("{}{}", 0), "the header is no JSON");
  check_refused(file_of(std::string("{}\0 ", 4), 0), "the header is no JSON: its byte 2 is zero");
  check_refused(file_of("{\"a\":{},\"a\":{}}", 0), "the header names \"a\" twice");
  check_refused(file_of("{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F32\"}}", 0), "the header names \"dtype\" twice");
  check_refused(file_of("{\"a\":" + std::string(100'000, '['), 0), "4 deep, the format has 3");
  check_refused(file_of("{\"a\":3}", 0), "tensor \"a\" is 3, it must be an object");
  check_refused(file_of("{\"a\":{\"shape\":[],\"data_offsets\":[0,0]}}", 0), "tensor \"a\" has no dtype");
  check_refused(file_of("{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,0]}}", 0), "tensor \"a\" has no shape");
  check_refused(file_of("{\"a\":{\"dtype\":\"F32\",\"shape\":[]}}", 0), "tensor \"a\" has no data_offsets");
  check_refused(file_of("{\"a\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0],\"order\":1}}", 0),
                "a field \"order\"");
  check_refused(one("32", "[1]", "[0,4]", 4), "tensor \"t\": dtype is 32, it must be a string");
  check_refused(one("\"F31\"", "[1]", "[0,4]", 4), "tensor \"t\": dtype \"F31\" is not known");
  check_refused(one("\"F32\"", "1", "[0,4]", 4), "shape is 1, it must be a list");
  check_refused(one("\"F32\"", "[-1]", "[0,4]", 4), "shape is [-1], extents must be whole numbers");
  check_refused(one("\"F32\"", "[1.0]", "[0,4]", 4), "shape is [1.0], extents must be whole numbers");
  check_refused(one("\"F32\"", "[9223372036854775808]", "[0,4]", 4),
                "extents must be whole numbers from 0 to 2^63 - 1");
  check_refused(one("\"F32\"", "[4294967296,4294967296]", "[0,0]", 0), "has more than 2^64 bytes");
  check_refused(one("\"F32\"", "[4611686018427387905]", "[0,4]", 4), "has more than 2^64 bytes");
  check_refused(one("\"F32\"", "[1]", "4", 4), "data_offsets is 4, it must be two whole numbers");
  check_refused(one("\"F32\"", "[1]", "[0]", 4), "data_offsets is [0], it must be two whole numbers");
  check_refused(one("\"F32\"", "[1]", "[0,-4]", 4), "data_offsets is [0,-4], it must be two whole numbers");
  check_refused(one("\"F32\"", "[1]", "[0,18446744073709551616]", 4), "it must be two whole numbers");
  check_refused(one("\"F32\"", "[2]", "[0,4]", 4), "F32 of shape [2] has 8 bytes, its data_offsets are [0, 4)");
  check_refused(one("\"F64\"", "[1]", "[0,4]", 4), "F64 of shape [1] has 8 bytes, its data_offsets are [0, 4)");
  check_refused(one("\"F32\"", "[1]", "[4,0]", 4), "has 4 bytes, its data_offsets are [4, 0)");
  check_refused(one("\"F32\"", "[1]", "[0,4]", 3), "ends at byte 4, the file has 3 bytes of data");
  check_refused(one("\"F32\"", "[1]", "[0,4]", 5), "the tensors have 4 bytes, the file has 5 bytes of data");
  check_refused(one("\"F32\"", "[1]", "[4,8]", 8), "begins at byte 4, the one before it ends at 0: there is a hole");
  const auto two = [](const std::string& second, std::size_t data) {
    return file_of("{" + tensor("a", "\"F32\"", "[1]", "[0,4]") + "," + tensor("b", "\"F32\"", "[1]", second) + "}",
                   data);
  };
  check_refused(two("[2,6]", 6), "tensor \"b\" begins at byte 2, the one before it ends at 4: they overlap");
  check_refused(two("[5,9]", 9), "tensor \"b\" begins at byte 5, the one before it ends at 4: there is a hole");
  check_refused(two("[0,4]", 4), "they overlap");
  check_refused(file_of("{\"__metadata__\":[]}", 0), "__metadata__ is [], it must be an object");
  check_refused(file_of("{\"__metadata__\":{\"n\":1}}", 0), "__metadata__: \"n\" is 1, it must be a string");
}

TEST_CASE("what is written is read again, and the file appears only when it is whole") {
  const TemporaryDirectory files;
  const std::string path = files / "a.safetensors";
  const std::vector<Entry> tensors{{.name = "half", .dtype = safetensors::F16, .shape = {3}},
                                   {.name = "wide \"quoted\" \xc3\xa9", .dtype = safetensors::F64, .shape = {2, 1}},
                                   {.name = "empty", .dtype = safetensors::BF16, .shape = {0, 7}},
                                   {.name = "one", .dtype = safetensors::I32, .shape = {}}};
  {
    safetensors::Output out(path, tensors, {{"key", "text"}});
    for (const Entry& tensor : tensors) {
      const auto bytes = out.bytes(tensor.name);
      CHECK((bytes.empty() || reinterpret_cast<std::uintptr_t>(bytes.data()) % tensor.dtype.bytes == 0));
      for (std::size_t i = 0; i < bytes.size(); ++i)
        bytes[i] = static_cast<std::byte>(tensor.name[0] + static_cast<int>(i));
    }
    CHECK_FALSE(std::filesystem::exists(path));
    out.finish();
  }
  const safetensors::Input in(path);
  check_sound(in.header(), read_file(path));
  CHECK(in.header().metadata.at("key") == "text");
  REQUIRE(in.header().tensors.size() == tensors.size());
  for (const Entry& tensor : tensors) {
    const Entry* const found = in.header().find(tensor.name);
    REQUIRE(found != nullptr);
    CHECK(found->dtype == tensor.dtype);
    CHECK(found->shape == tensor.shape);
    const auto bytes = in.bytes(*found);
    for (std::size_t i = 0; i < bytes.size(); ++i)
      CHECK(bytes[i] == static_cast<std::byte>(tensor.name[0] + static_cast<int>(i)));
  }
  { const safetensors::Output given_up(files / "b.safetensors", tensors); }
  CHECK_FALSE(std::filesystem::exists(files / "b.safetensors"));
  CHECK(std::distance(std::filesystem::directory_iterator(files.path()), {}) == 1);

  using Twice = std::vector<Entry>;
  CHECK_THROWS_MATCHES(safetensors::Output(files / "c", Twice{tensors[0], tensors[0]}), safetensors::refusal,
                       MessageMatches(ContainsSubstring("tensor \"half\" cannot be written: the name is taken")));
  CHECK_THROWS_MATCHES(safetensors::Output(files / "no/such/folder", tensors), safetensors::refusal,
                       MessageMatches(ContainsSubstring("cannot be written: No such file or directory")));
  CHECK_THROWS_MATCHES(safetensors::Input(files / "none"), safetensors::refusal,
                       MessageMatches(ContainsSubstring("cannot be opened: No such file or directory")));
  CHECK_THROWS_MATCHES(safetensors::Input(files.path()), safetensors::refusal,
                       MessageMatches(ContainsSubstring("is no regular file")));
  write_file(files / "short", "123");
  CHECK_THROWS_MATCHES(safetensors::Input(files / "short"), safetensors::refusal,
                       MessageMatches(ContainsSubstring("short is no sound safetensors file: the file has 3 bytes")));
}

TEST_CASE("no mutation of a sound file crashes the reader or passes it unsound") {
  const std::string sound = sound_file();
  int accepted = 0;
  int refused = 0;
  for (std::uint64_t seed = 0; seed < 100'000; ++seed) {
    std::mt19937_64 random(seed);
    const std::string file = mutated(sound, random);
    CAPTURE(seed);
    try {
      const Header header = parse(file);
      ++accepted;
      check_sound(header, file);
    } catch (const safetensors::refusal&) {
      ++refused;
    }
  }
  // Both happen, so both are tested.
  CHECK(accepted > 1000);
  CHECK(refused > 50'000);
}
