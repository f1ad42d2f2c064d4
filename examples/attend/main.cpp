/// \file
/// Ring attention on tensors in a file: attend IN.safetensors OUT.safetensors
#include "mapped_file.hpp"
#include "options.hpp"
#include "ranks.hpp"
#include "request.hpp"

#include <rondo/engine/workspace_text.hpp>
#include <rondo/rondo.hpp>

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <optional>
#include <vector>

namespace {

using attend::Options;
using attend::Request;

/// The tensors that are the results of a request.
std::vector<safetensors::Entry> results_of(const Request& request, const safetensors::Input& in) {
  const auto& q = in.header().find("q")->shape;
  const auto& k = in.header().find("k")->shape;
  const auto& v = in.header().find("v")->shape;
  const auto sums = request.dtype == safetensors::F64 ? safetensors::F64 : safetensors::F32;
  std::vector<safetensors::Entry> tensors{{.name = "out", .dtype = request.dtype, .shape = {q[0], q[1], q[2], v[3]}},
                                          {.name = "lse", .dtype = sums, .shape = {q[0], q[2], q[1]}}};
  if (request.backward) {
    tensors.push_back({.name = "grad_q", .dtype = request.dtype, .shape = q});
    tensors.push_back({.name = "grad_k", .dtype = request.dtype, .shape = k});
    tensors.push_back({.name = "grad_v", .dtype = request.dtype, .shape = v});
    if (request.sinks) tensors.push_back({.name = "grad_sinks", .dtype = sums, .shape = {q[2]}});
  }
  return tensors;
}

template <class Comm>
void compute(Comm& comm, const Options& options, const Request& request, const safetensors::Input& in) {
  std::optional<safetensors::Output> out;
  if (comm.rank() == 0) out.emplace(options.out, results_of(request, in));
  safetensors::Output* const file = out ? &*out : nullptr;
  const auto compute_in = [&]<class T>(T) {
    if (comm.rank() == 0 && !request.reproducible) {
      const auto workspace = rondo::workspace_bytes(rondo::default_kernel<T, attend::Exec>{}, request.shape,
                                                    request.sharding, comm.size(), 0, request.chunk, request.backward);
      std::printf("%s", rondo::in_words(workspace, "workspace of rank 0, ").c_str());
    }
    attend::compute_in<T>(comm, request, in, file);
  };
  if (request.dtype == safetensors::F64) {
    compute_in(double{});
  } else if (request.dtype == safetensors::F32) {
    compute_in(float{});
  } else if (request.dtype == safetensors::BF16) {
    compute_in(rondo::bfloat16{});
  } else {
    compute_in(rondo::float16{});
  }
  if (out) out->finish();
}

/// Each rank computes on a thread of its own and those it starts.
Kokkos::InitializationSettings settings(int threads) {
  return Kokkos::InitializationSettings().set_num_threads(threads).set_disable_warnings(true);
}

void run_on_threads(const Options& options) {
  const Kokkos::ScopeGuard kokkos(settings(options.threads));
  const safetensors::Input in(options.in);
  const Request request = attend::make_request(options, in);
  rondo::in_process_group<attend::Exec> group(
      options.ranks.value_or(1), {.threads_per_rank = options.threads, .deadline = rondo::Deadline{options.deadline}});
  group.run([&](attend::Threads& comm) { compute(comm, options, request, in); });
}

#ifdef ATTEND_WITH_MPI
int run_on_processes(const Options& options) {
  int level = 0;
  int rank = 0;
  int size = 1;
  MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &level);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  try {
    if (options.ranks && *options.ranks != size) {
      safetensors::refuse("--ranks is ", *options.ranks, ", mpiexec has started ", size, " processes");
    }
    const Kokkos::ScopeGuard kokkos(settings(options.threads));
    const safetensors::Input in(options.in);
    const Request request = attend::make_request(options, in);
    attend::Processes comm(MPI_COMM_WORLD, rondo::MpiOptions{.deadline = rondo::Deadline{options.deadline}});
    compute(comm, options, request, in);
    comm.barrier();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "attend: rank %d: %s\n", rank, error.what());
    rondo::abort_all(MPI_COMM_WORLD, EXIT_FAILURE);
  }
  MPI_Finalize();
  return EXIT_SUCCESS;
}
#endif

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app("Exact attention, and its gradients, of the tensors in a safetensors file, on a ring of ranks.");
  attend::declare(app, options);
  CLI11_PARSE(app, argc, argv);
  try {
    attend::check(options);
    if (options.comm == "mpi") {
#ifdef ATTEND_WITH_MPI
      return run_on_processes(options);
#else
      safetensors::refuse("--comm is mpi, but this program was built without the component mpi (RONDO_MPI=ON)");
#endif
    }
    run_on_threads(options);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "attend: %s\n", error.what());
    return EXIT_FAILURE;
  }
}
