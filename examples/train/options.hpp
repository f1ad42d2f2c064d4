/// \file
/// The command line.
#pragma once

#include "adamw.hpp"
#include "checkpoint.hpp"
#include "data.hpp"
#include "sample.hpp"
#include "trainer.hpp"

#include <CLI/CLI.hpp>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <sstream>
#include <string>
#include <vector>

// Where the program learns from unless told otherwise: the headers of the Kokkos it was built with.
#ifndef TRAIN_DEFAULT_DIRECTORY
#define TRAIN_DEFAULT_DIRECTORY ""
#endif

namespace train {

/// What a user can say.
struct Options {
  Recipe recipe;
  std::filesystem::path directory = TRAIN_DEFAULT_DIRECTORY;
  std::vector<std::string> extensions{".hpp", ".h"};
  bool all_files = false;
  int ranks = 4;
  int data_parallel = 1;
  std::string comm = "threads";
  std::string sharding = "striped";
  std::int64_t chunk = 4096;
  double deadline = 300;
  std::string recompute = "nothing";
  std::filesystem::path checkpoint;
  std::int64_t checkpoint_every = 20;
  bool resume = false;
  std::int64_t stop_after = 0;
  std::filesystem::path metrics;
  SampleOptions sample;
  std::vector<std::string> command;  ///< the command line itself

  rondo::any_sharding chosen_sharding() const { return rondo::any_sharding::named(sharding, recipe.context); }
};

/// Names the options. Defaults are those of Options, and are shown.
inline void declare(CLI::App& app, Options& options) {
  Recipe& recipe = options.recipe;
  recipe.model.kv_heads = 0;
  recipe.model.hidden = 0;
  recipe.batch = 0;
  app.option_defaults()->always_capture_default();
  app.option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  app.add_option("directory", options.directory, "Learn from the files below this directory");
  auto* extensions = app.add_option("--extensions", options.extensions, "Of them, those that end so")->delimiter(',');
  app.add_flag("--all-files", options.all_files, "Of them all, whatever they end in")->excludes(extensions);
  app.add_option("--context", recipe.context, "Bytes that the model sees at once")->group("Model");
  app.add_option("--layers", recipe.model.layers, "Blocks of attention and feed-forward")->group("Model");
  app.add_option("--dim", recipe.model.dim, "Width of the model")->group("Model");
  app.add_option("--heads", recipe.model.heads, "Heads of attention; dim must be a multiple")->group("Model");
  app.add_option("--kv-heads", recipe.model.kv_heads, "Heads of keys and values; 0: as many as heads")->group("Model");
  app.add_option("--hidden", recipe.model.hidden, "Width of the feed-forward; 0: 3 dim")->group("Model");
  app.add_flag("--tied", recipe.model.tied, "Use the embedding as the head")->group("Model");
  app.add_option("--ranks", options.ranks, "Ranks that share the context, threads of this process")->group("Ring");
  app.add_option("--data-parallel", options.data_parallel,
                 "Rings side by side, each of ranks / so many, with windows of their own")
      ->group("Ring");
  app.add_option("--comm", options.comm, "threads of this process, or mpi: the processes that mpiexec started")
      ->group("Ring");
  app.add_option("--sharding", options.sharding, "contiguous, striped or zigzag")->group("Ring");
  app.add_option("--chunk", options.chunk, "Tokens that travel at a time")->group("Ring");
  app.add_option("--deadline", options.deadline, "Seconds that a rank waits for another")->group("Ring");
  app.add_option("--recompute", options.recompute,
                 "In the backward pass instead of keeping it, to the same bits: nothing, all-but-attention or layers")
      ->group("Ring");
  app.add_option("--steps", recipe.steps, "Steps of the whole run")->group("Training");
  app.add_option("--batch", recipe.batch, "Windows of a step; 0: one for each ring")->group("Training");
  app.add_option("--seed", recipe.seed, "Of the weights, the windows and the sample")->group("Training");
  app.add_option("--learning-rate", recipe.optimiser.learning_rate, "Highest learning rate")->group("Training");
  app.add_option("--warmup", recipe.optimiser.warmup, "Steps in which it rises")->group("Training");
  app.add_option("--weight-decay", recipe.optimiser.weight_decay, "Of AdamW")->group("Training");
  app.add_option("--clip", recipe.optimiser.clip, "Largest norm of the gradient")->group("Training");
  app.add_option("--checkpoint", options.checkpoint,
                 "Keep the run in this file (after Ctrl-C without it: in train.checkpoint)")
      ->group("Files");
  app.add_option("--checkpoint-every", options.checkpoint_every, "Steps between two writes of it")->group("Files");
  app.add_flag(
         "--resume", options.resume,
         "Go on from the checkpoint: to the same bits with the same ranks, sharding and chunk, to the same curve with "
         "others")
      ->group("Files");
  app.add_option("--stop-after", options.stop_after,
                 "Stop after so many steps of this call, as Ctrl-C would; 0: do not")
      ->group("Files");
  app.add_option("--metrics", options.metrics, "Write a JSON line a step to this file")->group("Files");
  app.add_option("--prompt", options.sample.prompt, "Text to continue at the end")->group("Sample");
  app.add_option("--sample", options.sample.bytes, "Bytes to continue it by")->group("Sample");
  app.add_option("--temperature", options.sample.temperature, "0: always the likeliest byte")->group("Sample");
  app.footer(
      "Ctrl-C stops at the end of the step and leaves a checkpoint (exit status 130); a second one ends at once.");
}

/// How the ranks are arranged, in words: nothing if they are one ring.
inline std::string in_rings(const Options& options) {
  return options.data_parallel == 1 ? std::string() : " in " + std::to_string(options.data_parallel) + " rings";
}

/// An argument as a shell takes it.
inline std::string quoted(const std::string& argument) {
  const bool plain = !argument.empty() && argument.find_first_not_of(
                                              "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                              "0123456789_./=,:+-@%") == std::string::npos;
  if (plain) return argument;
  std::string text = "'";
  for (const char c : argument) text += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return text + "'";
}

/// The command that goes on from a checkpoint: the one that was given, with what it lacks.
inline std::string command_to_go_on(const Options& options, const std::filesystem::path& checkpoint) {
  std::string command;
  const auto add = [&](const std::string& argument) {
    if (!command.empty()) command += ' ';
    command += argument;
  };
  for (const std::string& argument : options.command) add(quoted(argument));
  if (options.checkpoint.empty()) {
    add("--checkpoint");
    add(quoted(checkpoint.string()));
  }
  return options.resume ? command : command + " --resume";
}

/// Fills in what depends on other options. \throws refusal  for values that make no sense, saying why
inline void complete(Options& options) {
  ModelShape& model = options.recipe.model;
  const auto must_be = [](const char* name, auto value, bool right, const char* what) {
    std::ostringstream text;
    text << "--" << name << " is " << value << ", it must be " << what;
    if (!right) throw refusal(text.str());
  };
  const auto at_least = [&](const char* name, auto value, decltype(value) least) {
    must_be(name, value, value >= least, ("at least " + std::to_string(least)).c_str());
  };
  const auto positive = [&](const char* name, double value) { must_be(name, value, value > 0, "positive"); };
  const auto not_negative = [&](const char* name, double value) { must_be(name, value, value >= 0, "0 or more"); };
  at_least("context", options.recipe.context, 1);
  at_least("layers", model.layers, 1);
  at_least("dim", model.dim, 1);
  at_least("heads", model.heads, 1);
  at_least("kv-heads", model.kv_heads, 0);
  at_least("hidden", model.hidden, 0);
  at_least("ranks", options.ranks, 1);
  at_least("data-parallel", options.data_parallel, 1);
  at_least("chunk", options.chunk, 1);
  at_least("batch", options.recipe.batch, 0);
  at_least("steps", options.recipe.steps, 1);
  at_least("warmup", options.recipe.optimiser.warmup, 0);
  positive("learning-rate", options.recipe.optimiser.learning_rate);
  not_negative("weight-decay", options.recipe.optimiser.weight_decay);
  positive("clip", options.recipe.optimiser.clip);
  at_least("checkpoint-every", options.checkpoint_every, 1);
  at_least("stop-after", options.stop_after, 0);
  at_least("sample", options.sample.bytes, 0);
  not_negative("temperature", options.sample.temperature);
  positive("deadline", options.deadline);

  if (options.all_files) options.extensions.clear();
  if (model.kv_heads == 0) model.kv_heads = model.heads;
  if (model.hidden == 0) model.hidden = 3 * model.dim;
  const std::string dim = std::to_string(model.dim);
  const std::string heads = std::to_string(model.heads);
  if (model.dim % model.heads != 0)
    throw refusal("--dim is " + dim + ", --heads is " + heads + ": dim must be a multiple of heads");
  if (model.head_dim() % 2 != 0) {
    throw refusal("--dim is " + dim + ", --heads is " + heads + ": a head has " + std::to_string(model.head_dim()) +
                  " elements, and rotary positions turn them in pairs: it must be even");
  }
  if (model.heads % model.kv_heads != 0) {
    throw refusal("--heads is " + heads + ", --kv-heads is " + std::to_string(model.kv_heads) +
                  ": heads must be a multiple of kv-heads");
  }
  if (options.sharding != "contiguous" && options.sharding != "striped" && options.sharding != "zigzag") {
    throw refusal("--sharding is " + options.sharding + ", it must be contiguous, striped or zigzag");
  }
  static_cast<void>(rondo::plan::recompute(options.recompute));
  if (options.comm != "threads" && options.comm != "mpi") {
    throw refusal("--comm is " + options.comm + ", it must be threads or mpi");
  }
  if (options.comm == "threads") check_mesh(options.ranks, options.data_parallel);  // mpiexec says how many others have
  if (options.recipe.batch == 0) options.recipe.batch = options.data_parallel;
  if (options.recipe.batch % options.data_parallel != 0) {
    throw refusal("--batch is " + std::to_string(options.recipe.batch) + ", --data-parallel is " +
                  std::to_string(options.data_parallel) +
                  ": the batch must be a multiple, as many windows for each ring");
  }
  if (options.resume && options.checkpoint.empty()) throw refusal("--resume needs --checkpoint FILE to resume from");
  if (options.directory.empty())
    throw refusal("no directory to learn from was given, and this program was built without one");
  if (!options.checkpoint.empty()) check_writable(options.checkpoint);
  options.sample.context = std::min<std::int64_t>(options.sample.context, options.recipe.context);
  options.sample.seed = options.recipe.seed;
}

}  // namespace train
