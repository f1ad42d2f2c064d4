/// \file
/// What every rank does: train, show, save, and at the end test the model with and without the ring.
#pragma once

#include "checkpoint.hpp"
#include "cut_off.hpp"
#include "memory.hpp"
#include "options.hpp"
#include "progress.hpp"
#include "trainer.hpp"

#include <rondo/rondo.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <numeric>
#include <span>
#include <string>
#include <vector>

namespace train {

/// The signal that asked for a stop at the end of the step; 0: none did.
inline std::atomic<int> stop_signal{0};
static_assert(std::atomic<int>::is_always_lock_free, "a signal handler may touch nothing else");

/// What came of a run.
struct Outcome {
  std::vector<StepReport> steps;         ///< of this call
  int ring_ranks = 1;                    ///< that share a context
  bool finished = false;                 ///< all steps of the recipe are made
  std::int64_t steps_done = 0;           ///< those of former calls included
  std::filesystem::path checkpoint;      ///< where the run lies; empty: nowhere
  std::vector<std::int64_t> peak_bytes;  ///< of every rank
  rondo::WorkspaceBytes workspace;       ///< attention's, of rank 0
  double held_out = 0;                   ///< loss on the window that was held out
  double cut_off = 0;                    ///< the same without other ranks' keys and values
  std::vector<float> weights;

  /// Mean loss of the last `count` steps: every step sees another window, and some are easier than others.
  double recent_loss(std::size_t count = 10) const {
    const std::size_t n = std::min(count, steps.size());
    return std::transform_reduce(steps.end() - static_cast<std::ptrdiff_t>(n), steps.end(), 0.0, std::plus<>{},
                                 [](const StepReport& report) { return report.loss; }) /
           static_cast<double>(std::max<std::size_t>(1, n));
  }
};

/// Makes one step. The report is the same on all ranks, but for the seconds.
template <class Comm, class TrainerT>
StepReport make_step(Comm& comm, TrainerT& trainer, const Corpus& corpus, const Recipe& recipe) {
  const auto begin = std::chrono::steady_clock::now();
  const double waited_before = trainer.attention_statistics().wait_seconds;
  StepReport report;
  report.loss = trainer.step(corpus.training(recipe.seed, trainer.steps_done(), recipe.batch));
  report.step = trainer.steps_done();
  report.tokens = report.step * recipe.batch * recipe.context;
  report.peak_bytes = MemoryCount::peak();
  comm.all_reduce(std::span{&report.peak_bytes, 1}, rondo::Reduction::maximum);
  report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  report.wait_share = (trainer.attention_statistics().wait_seconds - waited_before) / report.seconds / comm.size();
  comm.all_reduce(std::span{&report.wait_share, 1}, rondo::Reduction::sum);
  if (!std::isfinite(report.loss)) {
    throw refusal("the loss of step " + std::to_string(report.step) +
                  " is no number: the training has diverged, try a smaller --learning-rate");
  }
  return report;
}

/// Makes steps until all are made or a stop is asked for, and saves on the way.
template <class Comm, class TrainerT>
void make_steps(Comm& comm, TrainerT& trainer, const Options& options, const Corpus& corpus, Outcome& outcome) {
  const auto recipe = describe(options.recipe, corpus);
  const bool speaks = comm.rank() == 0;
  Progress progress(options.recipe.steps, options.recipe.batch * options.recipe.context);
  Metrics metrics;
  if (speaks && !options.metrics.empty()) metrics = Metrics(options.metrics, trainer.steps_done());

  bool stopping = false;
  while (trainer.steps_done() < options.recipe.steps && !stopping) {
    outcome.steps.push_back(make_step(comm, trainer, corpus, options.recipe));
    if (speaks) {
      metrics.write(outcome.steps.back());
      progress.show(outcome.steps.back());
    }
    const auto made = static_cast<std::int64_t>(outcome.steps.size());
    const bool stop = stop_signal != 0 || (options.stop_after > 0 && made >= options.stop_after);
    stopping = !comm.agree(!stop);  // a signal may reach the ranks at different steps: they stop at the same one
    const bool last = stopping || trainer.steps_done() == options.recipe.steps;
    outcome.checkpoint = options.checkpoint;
    if (stopping && outcome.checkpoint.empty()) outcome.checkpoint = "train.checkpoint";
    if (!outcome.checkpoint.empty() && (last || trainer.steps_done() % options.checkpoint_every == 0)) {
      save(comm, outcome.checkpoint, recipe, trainer);
    }
  }
  if (speaks) progress.end();
  outcome.steps_done = trainer.steps_done();
  outcome.finished = trainer.steps_done() == options.recipe.steps;
}

/// One rank's whole run.
template <rondo::Communicator Comm>
Outcome run_rank(Comm& comm, const Options& options, const Corpus& corpus) {
  Mesh<Comm> mesh = make_mesh(comm, options.data_parallel);
  const rondo::any_sharding sharding = options.chosen_sharding();
  Trainer trainer(mesh, options.recipe, sharding, rondo::default_kernel<float, typename Comm::execution_space>{},
                  rondo::Options{.chunk = options.chunk}, rondo::plan::recompute(options.recompute));
  if (options.resume) {
    resume(comm, options.checkpoint, describe(options.recipe, corpus), trainer);
    if (comm.rank() == 0) std::printf("resumed after step %lld\n", static_cast<long long>(trainer.steps_done()));
  }
  Outcome outcome;
  outcome.ring_ranks = mesh.ring.size();
  outcome.workspace = trainer.attention_workspace();
  make_steps(comm, trainer, options, corpus, outcome);

  std::vector<std::int64_t> peaks(static_cast<std::size_t>(comm.size()), 0);
  peaks[static_cast<std::size_t>(comm.rank())] = MemoryCount::peak();
  comm.all_reduce(std::span{peaks}, rondo::Reduction::sum);
  outcome.peak_bytes = peaks;
  if (outcome.finished) {
    outcome.held_out = trainer.loss(corpus.held_out());
    outcome.cut_off = trainer.loss(corpus.held_out(), own_rank_only(sharding, mesh.ring.size()));
    outcome.weights.assign(trainer.weights().data(), trainer.weights().data() + trainer.weights().size());
  }
  return outcome;
}

}  // namespace train
