// Every pair of attend's options, and of what a file may hold, generated: each run either gives what the formulas give or is
// refused with a reason that is written here. A new option that is not in the list below is noticed.
#include "attend_program.hpp"

#include <support/generators.hpp>
#include <support/oracle.hpp>

#include <rondo/score/dropout.hpp>

#include <catch2/catch_message.hpp>
#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <set>
#include <string>
#include <vector>

namespace {

using namespace rondo::test;

/// Inputs of the longest sequence and the widest values that a file may have; files have parts of them.
constexpr Extents extents{.batch = 2, .heads = 6, .kv_heads = 2, .head_dim = 5, .tokens = 43, .value_dim = 9};
constexpr std::int64_t queries = 29;

/// Documents of uneven lengths, others in each batch entry.
std::int32_t segment(int batch, std::int64_t token) {
  const std::int64_t ends[2][4] = {{3, 11, 12, 25}, {0, 8, 20, 20}};
  std::int32_t id = 7 * batch;
  for (const std::int64_t end : ends[batch]) id += token >= end ? 3 : 0;
  return id;
}

/// What a run is expected to compute. Scores in the order scale, softcap, ALiBi, mask.
struct Expected {
  std::vector<std::function<bool(int, std::int64_t, std::int64_t)>> masks;
  double scale = 1 / std::sqrt(5.0);
  double cap = std::numeric_limits<double>::infinity();
  bool alibi = false;
  rondo::dropout dropout;
  std::string dtype = "f32";
  std::int64_t keys = queries;
  int value_dim = 5;
  bool sinks = false;
};

/// Learned logits of the heads, and the lengths of the batch's sequences.
constexpr float sinks[] = {0.5f, -1.25f, 3, 0, -0.5f, 1.5f};
constexpr std::int32_t lengths[] = {12, 0};

struct ExpectedScore {
  const Expected& expected;

  /// 2^(-8h/H) for H a power of two. For others the slopes of the power below it, then every other of the power above it.
  static double slope(int head) {
    static const double six_heads[] = {0.25, 0.0625, 0.015625, 0.00390625, 0.5, 0.125};
    return six_heads[head];
  }
  double apply(double s, int, int h, std::int64_t i, std::int64_t j) const {
    if (std::isfinite(expected.cap)) s = expected.cap * std::tanh(s / expected.cap);
    return expected.alibi ? s - slope(h) * static_cast<double>(std::abs(i - j)) : s;
  }
  double derivative(double s, int, int, std::int64_t, std::int64_t) const {
    const double c = std::isfinite(expected.cap) ? std::cosh(s / expected.cap) : 1;
    return 1 / (c * c);
  }
};

struct ExpectedExtras : NoExtras {
  ExpectedExtras(const Expected& expected, double* sink_sums)
      : dropout(expected.dropout), has_sinks(expected.sinks), sums(sink_sums) {}
  static constexpr bool has_sink = true;
  double sink(int h) const { return has_sinks ? sinks[h] : -std::numeric_limits<double>::infinity(); }
  void note_sink(int h, double gradient) const { sums[h] += gradient; }
  double weight(int b, int h, std::int64_t i, std::int64_t j) const {
    return dropout.keeps(b, h, i, j) ? 1 / (1 - dropout.probability) : 0;
  }
  rondo::dropout dropout;
  bool has_sinks;
  double* sums;  ///< of the sinks' gradients, [heads]
};

/// One way to give an option, and what it changes, or why it is refused.
struct Choice {
  std::string option;
  std::vector<std::string> words;
  std::function<void(Expected&)> effect;
  std::string refusal = {};
};

template <class Allows>
Choice mask(const std::string& text, const Allows& allows) {
  return {"--mask", {"--mask", text}, [allows](Expected& e) { e.masks.push_back(allows); }};
}
Choice without_effect(const std::vector<std::string>& words) {
  return {words.front(), words, [](Expected&) {}};
}
/// Another file.
Choice file(const std::string& what, const std::function<void(Expected&)>& effect) { return {what, {}, effect}; }
Choice dtype(const std::string& text) {
  return {"--dtype", {"--dtype", text}, [text](Expected& e) { e.dtype = text; }};
}

std::vector<Choice> all_choices() {
  using I = std::int64_t;
  return {
      mask("full", [](int, I, I) { return true; }),
      mask("causal", [](int, I i, I j) { return j <= i; }),
      mask("window:6,2", [](int, I i, I j) { return i - 6 <= j && j <= i + 2; }),
      mask("window:0,9", [](int, I i, I j) { return i <= j && j <= i + 9; }),
      mask("prefix:7", [](int, I i, I j) { return j <= i || j < 7; }),
      mask("chunked:10", [](int, I i, I j) { return i / 10 == j / 10; }),
      mask("document", [](int b, I i, I j) { return segment(b, i) == segment(b, j); }),
      mask("padding", [](int b, I, I j) { return j < lengths[b]; }),
      file("fewer keys", [](Expected& e) { e.keys = 13; }),
      file("more keys", [](Expected& e) { e.keys = 43; }),
      file("wide values", [](Expected& e) { e.value_dim = 9; }),
      file("narrow values", [](Expected& e) { e.value_dim = 1; }),
      file("sinks", [](Expected& e) { e.sinks = true; }),
      {"--scale", {"--scale", "-0.7"}, [](Expected& e) { e.scale = -0.7; }},
      {"--softcap", {"--softcap", "0.9"}, [](Expected& e) { e.cap = 0.9; }},
      {"--alibi", {"--alibi"}, [](Expected& e) { e.alibi = true; }},
      {"--dropout",
       {"--dropout", "0.3", "--seed", "17179869191"},
       [](Expected& e) {
         e.dropout = {0.3, 17179869191};
       }},
      {"--dropout", {"--dropout", "0.4"}, [](Expected& e) { e.dropout.probability = 0.4; }, "--dropout needs --seed"},
      {"--seed", {"--seed", "11"}, [](Expected& e) { e.dropout.seed = 11; }, "--seed is of use with --dropout only"},
      dtype("f64"),
      dtype("f32"),
      dtype("bf16"),
      dtype("f16"),
      without_effect({"--ranks", "2"}),
      without_effect({"--ranks", "5"}),
      without_effect({"--comm", "threads"}),
      without_effect({"--sharding", "contiguous"}),
      without_effect({"--sharding", "striped"}),
      without_effect({"--sharding", "zigzag"}),
      without_effect({"--chunk", "4"}),
      without_effect({"--threads", "2"}),
      without_effect({"--reproducible"}),
      without_effect({"--deadline", "60"}),
  };
}

/// Whether both give an option that may be given once. (A flag is as good as two.)
bool given_twice(const Choice& a, const Choice& b) {
  return std::any_of(a.words.begin(), a.words.end(), [&](const std::string& word) {
    return word.starts_with("--") && word != "--mask" && word != "--alibi" && word != "--reproducible" &&
           std::find(b.words.begin(), b.words.end(), word) != b.words.end();
  });
}

/// Why a pair is refused; empty: it is not.
std::string refusal_of(const Choice& a, const Choice& b) {
  const auto are = [&](const std::string& one, const std::string& other) {
    return a.option == one && (b.option == other || (!b.words.empty() && b.words.back() == other));
  };
  if (given_twice(a, b)) return "At Most 1 required but received 2";
  for (const char* keys : {"fewer keys", "more keys"}) {
    if (a.words.size() == 2 && a.words[1] == "document" && b.option == keys) {
      return "--mask document needs as many keys as queries: q has shape [2, 29, 6, 5], k has [2, ";
    }
  }
  if (are("sinks", "--reproducible")) return "--reproducible: the gradient of sinks is a sum over ranks";
  if (are("--dropout", "--seed") && b.option == "--seed") return "";
  return a.refusal.empty() ? b.refusal : a.refusal;
}

class Pairs {
 public:
  Pairs() : inputs_(random_inputs<float>(extents)), place_(tensors({})) {}

  /// What the run writes is what the formulas give for these choices.
  void check(const std::vector<Choice>& choices) const {
    Expected expected;
    std::vector<std::string> words;
    for (const Choice& choice : choices) {
      words.insert(words.end(), choice.words.begin(), choice.words.end());
      choice.effect(expected);
    }
    std::string line;
    for (const std::string& word : words) line += " " + word;
    for (const Choice& choice : choices) line += choice.words.empty() ? ", " + choice.option : "";
    INFO("attend" << line);
    write_tensors(place_.file("in.safetensors"), tensors(expected));
    const ProcessResult result = place_.run(words);
    INFO(result.output);
    REQUIRE(result.status == 0);
    compare(expected);
    std::filesystem::remove(place_.file("out.safetensors"));
  }

  /// The run ends with an error that says so.
  void check_refused(const Choice& a, const Choice& b, const std::string& reason) const {
    std::vector<std::string> words = a.words;
    words.insert(words.end(), b.words.begin(), b.words.end());
    Expected expected;
    a.effect(expected);
    b.effect(expected);
    write_tensors(place_.file("in.safetensors"), tensors(expected));
    const ProcessResult result = place_.run(words);
    INFO(a.option << " " << b.option << ": " << result.output);
    CHECK(result.status > 0);
    CHECK(result.output.find(reason) != std::string::npos);
    CHECK_FALSE(std::filesystem::exists(place_.file("out.safetensors")));
  }

  const AttendWorkplace& place() const { return place_; }

 private:
  /// The first tokens and elements of a tensor, [batch, tokens, heads, width].
  template <class T>
  static std::vector<T> part(const Whole<T>& whole, std::int64_t tokens, int width) {
    std::vector<T> values;
    for (int b = 0; b < extents.batch; ++b) {
      for (std::int64_t i = 0; i < tokens; ++i) {
        for (int h = 0; h < whole.heads(); ++h) {
          for (int d = 0; d < width; ++d) values.push_back(whole(b, i, h, d));
        }
      }
    }
    return values;
  }
  template <class T>
  static Whole<T> narrowed(const Whole<T>& whole, int width) {
    Whole<T> result(extents.batch, whole.tokens(), whole.heads(), width);
    result.values() = part(whole, whole.tokens(), width);
    return result;
  }

  /// What the file of a run holds.
  std::vector<FileTensor> tensors(const Expected& expected) const {
    const auto tensor = [](const char* name, const Whole<float>& whole, std::int64_t tokens, int width) {
      return file_tensor(name, safetensors::F32, {extents.batch, tokens, whole.heads(), width},
                         part(whole, tokens, width));
    };
    std::vector<std::int32_t> ids;
    for (int b = 0; b < extents.batch; ++b) {
      for (std::int64_t i = 0; i < queries; ++i) ids.push_back(segment(b, i));
    }
    std::vector<FileTensor> tensors{tensor("q", inputs_.q, queries, extents.head_dim),
                                    tensor("k", inputs_.k, expected.keys, extents.head_dim),
                                    tensor("v", inputs_.v, expected.keys, expected.value_dim),
                                    tensor("grad_out", inputs_.grad_out, queries, expected.value_dim),
                                    file_tensor("segment_ids", safetensors::I32, {extents.batch, queries}, ids),
                                    file_tensor("lengths", safetensors::I32, {extents.batch},
                                                std::vector<std::int32_t>(std::begin(lengths), std::end(lengths)))};
    if (expected.sinks) {
      tensors.push_back(file_tensor("sinks", safetensors::F32, {extents.heads},
                                    std::vector<float>(std::begin(sinks), std::end(sinks))));
    }
    return tensors;
  }

  /// The inputs as the run sees them: rounded to its type.
  Inputs<double> rounded(const Expected& expected) const {
    const std::string& dtype = expected.dtype;
    Inputs<double> inputs = converted<double>(inputs_);
    inputs.extents.value_dim = expected.value_dim;
    inputs.v = narrowed(inputs.v, expected.value_dim);
    inputs.grad_out = narrowed(inputs.grad_out, expected.value_dim);
    for (Whole<double>* tensor : {&inputs.q, &inputs.k, &inputs.v, &inputs.grad_out}) {
      for (double& x : tensor->values()) {
        if (dtype == "bf16") x = static_cast<float>(rondo::bfloat16(static_cast<float>(x)));
        if (dtype == "f16") x = static_cast<float>(rondo::float16(static_cast<float>(x)));
      }
    }
    return inputs;
  }

  void compare(const Expected& expected) const {
    const auto allows = [&](int b, int, std::int64_t i, std::int64_t j) {
      return i < queries && j < expected.keys &&
             std::all_of(expected.masks.begin(), expected.masks.end(), [&](const auto& mask) { return mask(b, i, j); });
    };
    std::vector<double> sink_gradients(extents.heads);
    const Results<double> right =
        plain_attention<double>(rounded(expected), allows, expected.scale, ExpectedScore{expected},
                                ExpectedExtras{expected, sink_gradients.data()});
    const safetensors::Input out(place_.file("out.safetensors"));
    const std::map<std::string, double> rounding{
        {"f64", 0x1p-53}, {"f32", 0x1p-24}, {"bf16", 0x1p-9}, {"f16", 0x1p-12}};
    const double unit = rounding.at(expected.dtype);
    const auto check_values = [&](const std::string& name, const std::vector<double>& wanted, double rounds_to) {
      const std::vector<double> given = read_numbers(out, name);
      REQUIRE(given.size() == wanted.size());
      double largest = 0;
      for (const double x : wanted) largest = std::max(largest, std::isfinite(x) ? std::abs(x) : 0);
      const double allowed = rounds_to * 40 * (1 + largest);
      for (std::size_t at = 0; at < wanted.size(); ++at) {
        const bool same = wanted[at] == given[at] || std::abs(wanted[at] - given[at]) <= allowed;
        if (!same) FAIL_CHECK(name << ", element " << at << ": " << given[at] << ", needed is " << wanted[at]);
        if (!same) break;
      }
    };
    for_each_result(
        [&](const std::string& name, const Whole<double>& tensor) {
          if (name == "lse") return check_values(name, by_heads(tensor), std::min(unit, 0x1p-24));
          const bool of_keys = name == "grad_k" || name == "grad_v";
          check_values(name, part(tensor, of_keys ? expected.keys : queries, tensor.width()), unit);
        },
        right);
    CHECK((out.header().find("grad_sinks") != nullptr) == expected.sinks);
    // From outputs that were rounded.
    if (expected.sinks) check_values("grad_sinks", sink_gradients, unit);
  }

  /// lse as files have it, [batch, heads, sequence].
  static std::vector<double> by_heads(const Whole<double>& lse) {
    std::vector<double> values;
    for (int b = 0; b < extents.batch; ++b) {
      for (int h = 0; h < extents.heads; ++h) {
        for (std::int64_t i = 0; i < queries; ++i) values.push_back(lse(b, i, h, 0));
      }
    }
    return values;
  }

  Inputs<float> inputs_;
  AttendWorkplace place_;
};

}  // namespace

TEST_CASE("every pair of options gives what the formulas give, on one rank and on several") {
  const Pairs pairs;
  const std::vector<Choice> choices = all_choices();
  for (std::size_t a = 0; a < choices.size(); ++a) {
    for (std::size_t b = a; b < choices.size(); ++b) {
      const std::string refusal = refusal_of(choices[a], choices[b]);
      if (!refusal.empty()) {
        pairs.check_refused(choices[a], choices[b], refusal);
        continue;
      }
      pairs.check({choices[a], choices[b]});
      std::vector<Choice> more{choices[a], choices[b]};
      std::set<std::string> given{choices[a].option, choices[b].option};
      if (given.insert("--ranks").second) more.push_back(without_effect({"--ranks", "3"}));
      if (given.insert("--sharding").second)
        more.push_back(without_effect({"--sharding", a % 2 == 0 ? "striped" : "zigzag"}));
      pairs.check(more);
    }
  }
}

TEST_CASE("the workspace is told by purpose") {
  const Pairs pairs;
  const ProcessResult result = pairs.place().run({"--ranks", "3", "--chunk", "5"});
  INFO(result.output);
  REQUIRE(result.status == 0);
  // Rank 0 has 10 queries: 2 x 6 x 10 floats in whole 128 bytes. Four gradients of 2 x 5 x 2 x (5 + 5) floats, likewise.
  const auto told = [&](const char* text) { return result.output.find(text) != std::string::npos; };
  CHECK(told("workspace of rank 0, forward: "));
  CHECK(told(" pieces, 512 state of the queries, 0 travelling gradients"));
  CHECK(told("workspace of rank 0, backward: "));
  CHECK(told(" pieces, 512 state of the queries, 3584 travelling gradients"));
}

TEST_CASE("the list of choices has every option of the program") {
  const Pairs pairs;
  std::set<std::string> listed{"--help"};
  for (const Choice& choice : all_choices()) listed.insert(choice.option);
  const std::string help = pairs.place().run({"--help"}).output;
  for (std::size_t at = help.find(" --"); at != std::string::npos; at = help.find(" --", at + 1)) {
    const std::string option = help.substr(at + 1, help.find_first_of(" ,\n", at + 1) - at - 1);
    INFO(option);
    CHECK(listed.count(option) == 1);
  }
}
