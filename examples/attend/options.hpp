/// \file
/// The command line.
#pragma once

#include "safetensors.hpp"

#include <rondo/rondo.hpp>

#include <CLI/CLI.hpp>

#include <cmath>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

namespace attend {

/// What a user can say.
struct Options {
  std::filesystem::path in;
  std::filesystem::path out;
  std::optional<int> ranks;
  std::string comm = "threads";
  std::string sharding = "contiguous";
  std::vector<std::string> masks;
  std::optional<double> softcap;
  bool alibi = false;
  std::optional<double> scale;
  std::optional<double> dropout;
  std::optional<std::int64_t> seed;
  std::string dtype;
  bool reproducible = false;
  std::optional<std::int64_t> chunk;
  int threads = 1;
  double deadline = 300;
};

inline void declare(CLI::App& app, Options& options) {
  app.add_option("in", options.in,
                 "File with the tensors q, k, v and, if wanted, grad_out, segment_ids, lengths and sinks")
      ->required();
  app.add_option("out", options.out,
                 "File to be written: out, lse and, given grad_out, grad_q, grad_k, grad_v, and grad_sinks")
      ->required();
  app.add_option("--mask", options.masks,
                 "What query i sees of the keys j; given several times, what all of them allow: full; causal, j <= i; "
                 "window:L,R, i-L <= j <= i+R; prefix:P, j <= i or j < P; chunked:C, i/C = j/C rounded down; document, "
                 "equal segment_ids; padding, j < lengths")
      ->allow_extra_args(false)
      ->group("Scores");
  app.add_option("--scale", options.scale, "Of the scores; 1/sqrt(head_dim) if not given")->group("Scores");
  app.add_option("--softcap", options.softcap, "X: scores become X tanh(score/X)")->group("Scores");
  app.add_flag("--alibi", options.alibi, "Take slope * |i-j| from the scores, with ALiBi's slopes")->group("Scores");
  app.add_option("--dropout", options.dropout, "P: leave out each probability with probability P; needs --seed")
      ->group("Scores");
  app.add_option("--seed", options.seed, "Of the dropout")->group("Scores");
  app.add_option("--dtype", options.dtype, "Compute in f64, f32, bf16 or f16; if not given, in the type of q")
      ->group("Scores");
  app.add_option("--ranks", options.ranks, "Ranks that share the sequence; 1 if not given")->group("Ring");
  app.add_option("--comm", options.comm, "threads of this process, or mpi: the processes that mpiexec started")
      ->capture_default_str()
      ->group("Ring");
  app.add_option("--sharding", options.sharding, "contiguous, striped or zigzag")->capture_default_str()->group("Ring");
  app.add_flag("--reproducible", options.reproducible,
               "The same bits on every number of ranks, with every sharding; backward takes twice the time")
      ->group("Ring");
  app.add_option("--chunk", options.chunk,
                 "Tokens that travel at a time; 4096 if not given. With --reproducible the length on which the bits "
                 "depend; 512")
      ->group("Ring");
  app.add_option("--threads", options.threads, "Threads of each rank")->capture_default_str()->group("Ring");
  app.add_option("--deadline", options.deadline, "Seconds that a rank waits for another")
      ->capture_default_str()
      ->group("Ring");
  app.footer(
      "q is [batch, sequence, heads, head_dim]; k and v have the same or fewer heads (grouped queries), and may have "
      "another sequence, whose tokens count from 0 too, and v another head_dim, which out then has. segment_ids is "
      "[batch, sequence], int32, and never falls along the sequence. lengths is [batch], int32. sinks is [heads]: an "
      "extra logit in every softmax, without a value. lse is [batch, heads, sequence], natural logarithm.");
}

/// Checks each option on its own. \throws safetensors::refusal  saying what was given and what it must be
inline void check(const Options& options) {
  using safetensors::refuse;
  const auto one_of = [](const char* name, const std::string& value, std::initializer_list<const char*> choices,
                         const char* text) {
    for (const char* choice : choices) {
      if (value == choice) return;
    }
    refuse("--", name, " is ", value, ", it must be ", text);
  };
  const auto at_least_one = [](const char* name, std::int64_t value) {
    if (value < 1) refuse("--", name, " is ", value, ", it must be at least 1");
  };
  const auto positive = [](const char* name, double value) {
    if (!(value > 0) || !std::isfinite(value)) refuse("--", name, " is ", value, ", it must be positive and finite");
  };
  one_of("comm", options.comm, {"threads", "mpi"}, "threads or mpi");
  one_of("sharding", options.sharding, {"contiguous", "striped", "zigzag"}, "contiguous, striped or zigzag");
  one_of("dtype", options.dtype, {"", "f64", "f32", "bf16", "f16"}, "f64, f32, bf16 or f16");
  at_least_one("ranks", options.ranks.value_or(1));
  at_least_one("chunk", options.chunk.value_or(1));
  at_least_one("threads", options.threads);
  positive("deadline", options.deadline);
  if (options.softcap) positive("softcap", *options.softcap);
  if (options.dropout && !(*options.dropout >= 0 && *options.dropout < 1)) {
    refuse("--dropout is ", *options.dropout, ", it must be from 0 to below 1");
  }
  if (options.seed.value_or(0) < 0) refuse("--seed is ", *options.seed, ", it must be at least 0");
  if (options.dropout.has_value() != options.seed.has_value()) {
    refuse(options.seed ? "--seed is of use with --dropout only"
                        : "--dropout needs --seed: the same number draws the same");
  }
  if (options.scale && !std::isfinite(*options.scale)) refuse("--scale is ", *options.scale, ", it must be finite");
}

}  // namespace attend
