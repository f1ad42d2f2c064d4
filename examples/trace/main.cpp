/// \file
/// Writes what every rank of a ring did when, as a trace that https://ui.perfetto.dev and chrome://tracing show.
#include <rondo/rondo.hpp>
#include <rondo/trace.hpp>

#ifdef TRACE_WITH_MPI
#include <rondo/comm/mpi.hpp>

#include <mpi.h>
#endif

#include <CLI/CLI.hpp>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <random>
#include <span>
#include <string>

namespace {

struct Options {
  int ranks = 4;
  std::string comm = "threads";
  std::int64_t tokens = 8192;
  int heads = 4;
  int head_dim = 64;
  std::int64_t chunk = 1024;
  double deadline = 60;
  std::filesystem::path output = "trace.json";
};

using View4 = Kokkos::View<float****, Kokkos::LayoutRight, Kokkos::DefaultHostExecutionSpace::memory_space>;

/// Normal numbers, others on every rank.
View4 random_tensor(const char* name, std::int64_t tokens, const Options& options, int rank) {
  const View4 x(name, 1, static_cast<std::size_t>(tokens), static_cast<std::size_t>(options.heads),
                static_cast<std::size_t>(options.head_dim));
  std::mt19937 random(static_cast<unsigned>(1 + rank));
  std::normal_distribution<float> normal;
  for (std::size_t i = 0; i < x.size(); ++i) x.data()[i] = normal(random);
  return x;
}

/// Forward and backward, the first time to warm up, the second time on record.
template <rondo::Communicator Comm>
void trace(Comm& comm, const Options& options) {
  rondo::Recorder recorder;
  rondo::RingAttention attention{comm, rondo::Shape{.heads = options.heads, .head_dim = options.head_dim},
                                 rondo::striped{options.tokens},
                                 rondo::default_kernel<float, typename Comm::execution_space>{},
                                 rondo::Options{.chunk = options.chunk, .recorder = &recorder}};
  const std::int64_t mine = attention.tokens();
  const auto tensor = [&](const char* name) { return random_tensor(name, mine, options, comm.rank()); };
  const View4 q = tensor("q"), k = tensor("k"), v = tensor("v"), out = tensor("out"), grad_out = tensor("grad_out"),
              grad_q = tensor("grad_q"), grad_k = tensor("grad_k"), grad_v = tensor("grad_v");
  const Kokkos::View<float***, Kokkos::LayoutRight, View4::memory_space> lse(
      "lse", 1, static_cast<std::size_t>(options.heads), static_cast<std::size_t>(mine));
  const rondo::Problem problem{rondo::causal{}};
  for (int call = 0; call < 2; ++call) {
    recorder.clear();
    comm.barrier();  // so that the ranks begin together
    attention.forward(q, k, v, out, lse, problem);
    attention.backward(q, k, v, out, lse, grad_out, grad_q, grad_k, grad_v, problem);
  }
  rondo::write_trace(comm, recorder, options.output);

  double sums[] = {recorder.compute_seconds(), recorder.wait_seconds()};
  comm.all_reduce(std::span<double>(sums), rondo::Reduction::sum);
  if (comm.rank() != 0) return;
  std::printf(
      "%d ranks computed for %.1f ms each and waited for %.1f ms: %.1f %% of the time is exposed communication\n",
      comm.size(), 1e3 * sums[0] / comm.size(), 1e3 * sums[1] / comm.size(), 100 * sums[1] / (sums[0] + sums[1]));
  std::printf("wrote %s: open it at https://ui.perfetto.dev\n", options.output.c_str());
}

void trace_threads(const Options& options) {
  rondo::in_process_group<Kokkos::DefaultHostExecutionSpace>(
      options.ranks, {.threads_per_rank = 1, .deadline = rondo::Deadline{options.deadline}})
      .run([&](auto& comm) { trace(comm, options); });
}

void trace_processes([[maybe_unused]] const Options& options) {
#ifdef TRACE_WITH_MPI
  rondo::mpi_communicator<Kokkos::DefaultHostExecutionSpace> comm{MPI_COMM_WORLD,
                                                                  {.deadline = rondo::Deadline{options.deadline}}};
  trace(comm, options);
#else
  throw rondo::argument_error("--comm is mpi, but this program was built without the component mpi (RONDO_MPI=ON)");
#endif
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app("Writes what every rank of a ring did when, as a trace that https://ui.perfetto.dev shows.");
  app.option_defaults()->always_capture_default();
  app.add_option("--ranks", options.ranks, "Ranks, threads of this process")->check(CLI::PositiveNumber);
  app.add_option("--comm", options.comm, "threads of this process, or mpi: the processes that mpiexec started")
      ->check(CLI::IsMember({"threads", "mpi"}));
  app.add_option("--tokens", options.tokens, "Tokens of the whole sequence")->check(CLI::PositiveNumber);
  app.add_option("--heads", options.heads, "Heads")->check(CLI::PositiveNumber);
  app.add_option("--head-dim", options.head_dim, "Elements of a head")->check(CLI::PositiveNumber);
  app.add_option("--chunk", options.chunk, "Tokens that travel at a time")->check(CLI::PositiveNumber);
  app.add_option("--deadline", options.deadline, "Seconds that a rank waits for another")->check(CLI::PositiveNumber);
  app.add_option("--output", options.output, "The trace");
  CLI11_PARSE(app, argc, argv);

  const bool processes = options.comm == "mpi";
#ifdef TRACE_WITH_MPI
  int level = 0;
  if (processes) MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &level);
#endif
  try {
    // Each rank computes on a thread of its own: Kokkos' own pool of threads has nothing to do.
    const Kokkos::ScopeGuard kokkos(Kokkos::InitializationSettings().set_num_threads(1).set_disable_warnings(true));
    processes ? trace_processes(options) : trace_threads(options);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "trace: %s\n", error.what());
#ifdef TRACE_WITH_MPI
    if (processes) rondo::abort_all(MPI_COMM_WORLD, EXIT_FAILURE);  // others may wait
#endif
    return EXIT_FAILURE;
  }
#ifdef TRACE_WITH_MPI
  if (processes) MPI_Finalize();
#endif
}
