/// \file
/// Trains a byte-level transformer on the files of a directory, its context spread over a ring of ranks.
#include "data.hpp"
#include "memory.hpp"
#include "options.hpp"
#include "run.hpp"
#include "sample.hpp"

#ifdef TRAIN_WITH_MPI
#include "mpi_ring.hpp"
#endif

#include <rondo/engine/workspace_text.hpp>
#include <rondo/rondo.hpp>

#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <exception>

namespace {

using train::Options;
using train::Outcome;

/// The first signal asks for a stop at the end of the step; the second finds the default again, and ends the program.
extern "C" void on_signal(int signal) {
  train::stop_signal = signal;
  std::signal(signal, SIG_DFL);
  constexpr char text[] = "\nstopping at the end of this step; once more ends at once\n";
  static_cast<void>(!write(STDERR_FILENO, text, sizeof text - 1));
}

/// Runs all ranks as threads of this process. The layers compute on the host, so the ring does.
Outcome run_in_process(const Options& options, const train::Corpus& corpus) {
  Outcome outcome;
  rondo::in_process_group<Kokkos::DefaultHostExecutionSpace> group(
      options.ranks, {.threads_per_rank = 1, .deadline = rondo::Deadline{options.deadline}});
  group.run([&](auto& comm) {
    Outcome mine = train::run_rank(comm, options, corpus);
    if (comm.rank() == 0) outcome = std::move(mine);
  });
  return outcome;
}

void introduce(const Options& options, const train::Corpus& corpus) {
  const train::ModelShape& model = options.recipe.model;
  std::printf("text: %lld bytes in %lld files of %s\n", static_cast<long long>(corpus.size()),
              static_cast<long long>(corpus.files()), options.directory.c_str());
  std::printf("model: %lld parameters, %d layers, dim %lld, %d heads of %lld\n",
              static_cast<long long>(train::ParameterLayout(model).size()), model.layers,
              static_cast<long long>(model.dim), model.heads, static_cast<long long>(model.head_dim()));
  const std::int64_t ring = options.ranks / options.data_parallel;
  std::printf("ring: %d ranks%s, context %lld, %s, %lld bytes a rank\n", options.ranks,
              train::in_rings(options).c_str(), static_cast<long long>(options.recipe.context),
              options.sharding.c_str(), static_cast<long long>((options.recipe.context + ring - 1) / ring));
  std::fflush(stdout);
}

void summarise(const Options& options, const Outcome& outcome) {
  if (!outcome.steps.empty()) {
    double seconds = 0;
    double waited = 0;
    for (const train::StepReport& step : outcome.steps) {
      seconds += step.seconds;
      waited += step.seconds * step.wait_share;
    }
    const auto steps = static_cast<double>(outcome.steps.size());
    std::printf("loss: %.4f at step %lld, %.4f at step %lld (%.4f over the last ten), in nats per byte\n",
                outcome.steps.front().loss, static_cast<long long>(outcome.steps.front().step),
                outcome.steps.back().loss, static_cast<long long>(outcome.steps.back().step), outcome.recent_loss());
    std::printf("speed: %.0f tokens/s, %.1f s in all, of which %.1f %% waiting for blocks\n",
                steps * static_cast<double>(options.recipe.batch * options.recipe.context) / seconds, seconds,
                100 * waited / seconds);
  }
  std::printf("peak memory of each rank:");
  for (const std::int64_t bytes : outcome.peak_bytes) std::printf(" %s", train::binary_size(bytes).c_str());
  std::printf("\n");
  std::printf("%s", rondo::in_words(outcome.workspace, "attention's workspace of rank 0, ").c_str());
  if (!outcome.checkpoint.empty()) std::printf("checkpoint: %s\n", outcome.checkpoint.c_str());
  if (!outcome.finished) {
    std::printf("stopped after step %lld of %lld; this goes on:\n  %s\n", static_cast<long long>(outcome.steps_done),
                static_cast<long long>(options.recipe.steps),
                train::command_to_go_on(options, outcome.checkpoint).c_str());
    return;
  }
  std::printf("held-out text: %.4f with the ring", outcome.held_out);
  if (outcome.ring_ranks > 1) {
    const std::string own = train::what_is_own(options.chosen_sharding(), outcome.ring_ranks);
    std::printf(", %.4f when cut off from all other ranks (a byte then sees %s)", outcome.cut_off, own.c_str());
  }
  std::printf("\n");
}

void show_sample(const Options& options, const Outcome& outcome) {
  if (!outcome.finished || options.sample.bytes == 0) return;
  const train::ParameterLayout layout(options.recipe.model);
  const auto text =
      train::continue_text(layout, outcome.weights.data(), options.sample, [] { return train::stop_signal != 0; });
  std::printf("the prompt and what the model writes after it:\n----\n%s\n----\n", train::printable(text).c_str());
}

/// Kokkos, the run, and what there is to say about it.
template <class Run>
void train_and_tell(const Options& options, const train::Corpus& corpus, const Run& run) {
  // Each rank computes on a thread of its own: Kokkos' own pool of threads has nothing to do.
  const Kokkos::ScopeGuard kokkos(Kokkos::InitializationSettings().set_num_threads(1).set_disable_warnings(true));
  const train::MemoryCount memory;
  std::signal(SIGINT, on_signal);
  std::signal(SIGTERM, on_signal);
  run(options, corpus);
}

void run_on_threads(const Options& options, const train::Corpus& corpus) {
  const Outcome outcome = run_in_process(options, corpus);
  summarise(options, outcome);
  show_sample(options, outcome);
}

#ifdef TRAIN_WITH_MPI
int run_on_processes(Options options) {
  const train::MpiScope mpi;
  options.ranks = mpi.size();
  try {
    train::check_mesh(options.ranks, options.data_parallel);
    const auto corpus = train::Corpus::read(options.directory, options.extensions, options.recipe.context);
    if (mpi.rank() == 0) introduce(options, corpus);
    int left = mpi.size();
    train_and_tell(options, corpus, [&](const Options&, const train::Corpus&) {
      bool speaks = false;
      const Outcome outcome = train::run_over_mpi(options, corpus, left, speaks);
      Options now = options;
      now.ranks = left;
      if (speaks) {
        summarise(now, outcome);
        show_sample(now, outcome);
      }
    });
    std::fflush(stdout);
    if (left < mpi.size()) std::_Exit(EXIT_SUCCESS);  // MPI_Finalize might wait for the dead
  } catch (const std::exception& error) {
    std::fprintf(stderr, "train: rank %d: %s\n", mpi.rank(), error.what());
    rondo::abort_all(MPI_COMM_WORLD, EXIT_FAILURE);
  }
  return train::stop_signal == 0 ? EXIT_SUCCESS : 128 + train::stop_signal;
}
#endif

}  // namespace

int main(int argc, char** argv) {
  Options options;
  options.command.assign(argv, argv + argc);
  CLI::App app("Trains a byte-level transformer on the files of a directory, its context spread over a ring of ranks.");
  train::declare(app, options);
  CLI11_PARSE(app, argc, argv);
  try {
    train::complete(options);
    if (options.comm == "mpi") {
#ifdef TRAIN_WITH_MPI
      return run_on_processes(options);
#else
      throw train::refusal("--comm is mpi, but this program was built without the component mpi (RONDO_MPI=ON)");
#endif
    }
    const auto corpus = train::Corpus::read(options.directory, options.extensions, options.recipe.context);
    introduce(options, corpus);
    train_and_tell(options, corpus, run_on_threads);
    return train::stop_signal == 0 ? EXIT_SUCCESS : 128 + train::stop_signal;  // as a shell counts it
  } catch (const std::exception& error) {
    std::fprintf(stderr, "train: %s\n", error.what());
    return EXIT_FAILURE;
  }
}
