// How much of the communication is not hidden: pairs of calls over MPI, one with messages and one that moves nothing, in
// turns; half of the pairs the other way round. Under mpiexec, one thread a rank:
//   mpiexec -n 2 build/release/bin/bench_overlap tokens=16384 heads=8 dim=64 pairs=5 polls=16 chunk=4096 share=0.8 causal=1
// share > 0: behind a link (rondo::paced) on which the largest transfer of a step takes that share of its computation;
// rate > 0: behind a link of so many bytes per second. Prints a line of JSON for each pass.
#include <support/silent.hpp>
#include <support/tensors.hpp>

#include <rondo/comm/mpi.hpp>
#include <rondo/comm/paced.hpp>
#include <rondo/rondo.hpp>

#include <mpi.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>
#include <vector>

namespace {

std::map<std::string, double> settings{{"tokens", 16384}, {"heads", 8}, {"dim", 64}, {"pairs", 5}, {"polls", 16},
                                       {"chunk", 4096},   {"share", 0}, {"rate", 0}, {"causal", 1}};

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const std::size_t n = values.size();
  return n % 2 == 1 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

template <class Comm>
double largest(Comm& comm, double value) {
  comm.all_reduce(std::span{&value, 1}, rondo::Reduction::maximum);
  return value;
}

/// Forward and backward of one rank, and what its recorder has seen.
template <class Comm, class Problem>
class Work {
 public:
  Work(Comm& comm, const Problem& problem)
      : comm_(comm),
        problem_(problem),
        attention_(comm, rondo::Shape{.heads = heads(), .head_dim = dim()},
                   rondo::striped{static_cast<std::int64_t>(settings["tokens"])}, {},
                   {.chunk = static_cast<std::int64_t>(settings["chunk"]),
                    .polls = static_cast<int>(settings["polls"]),
                    .recorder = &recorder}) {
    const std::int64_t tokens = attention_.tokens();
    const auto seed = static_cast<std::uint32_t>(10 * comm.rank());
    q_ = bench::random_tensor<float>(tokens, heads(), dim(), seed);
    k_ = bench::random_tensor<float>(tokens, heads(), dim(), seed + 1);
    v_ = bench::random_tensor<float>(tokens, heads(), dim(), seed + 2);
    grad_out_ = bench::random_tensor<float>(tokens, heads(), dim(), seed + 3);
    for (auto* tensor : {&out_, &grad_q_, &grad_k_, &grad_v_})
      *tensor = bench::Tensor4<float>("out", 1, tokens, heads(), dim());
    lse_ = bench::Tensor3<float>("lse", 1, heads(), tokens);
  }

  /// Seconds of the slowest rank.
  double seconds(bool backward) {
    comm_.barrier();
    const double begin = rondo::Recorder::now();
    if (backward) {
      attention_.backward(q_, k_, v_, out_, lse_, grad_out_, grad_q_, grad_k_, grad_v_, problem_);
    } else {
      attention_.forward(q_, k_, v_, out_, lse_, problem_);
    }
    return largest(comm_, rondo::Recorder::now() - begin);
  }
  std::int64_t bytes_sent() const { return attention_.statistics().bytes_sent; }

  rondo::Recorder recorder;

 private:
  static int heads() { return static_cast<int>(settings["heads"]); }
  static int dim() { return static_cast<int>(settings["dim"]); }

  Comm& comm_;
  Problem problem_;
  rondo::RingAttention<Comm, rondo::striped> attention_;
  bench::Tensor4<float> q_, k_, v_, grad_out_, out_, grad_q_, grad_k_, grad_v_;
  bench::Tensor3<float> lse_;
};

/// The bandwidth at which the largest transfer of a step takes `share` of that step's computation.
template <class Comm>
double rate_for(Comm& comm, const rondo::Recorder& recorder, std::size_t from, double share) {
  double rate = 0;
  double compute = 0;
  for (std::size_t i = from; i < recorder.events().size(); ++i) {
    const rondo::Event& event = recorder.events()[i];
    if (event.kind == rondo::Event::Kind::compute) compute = event.end - event.begin;
    if (event.kind == rondo::Event::Kind::send)
      rate = std::max(rate, static_cast<double>(event.bytes) / (share * compute));
  }
  return largest(comm, rate);
}

template <class Comm, class Problem>
void measure(bench::silent<Comm>& comm, const Problem& problem, bool backward, double rate) {
  Work<bench::silent<Comm>, Problem> work(comm, problem);
  comm.set_moving(true);
  work.seconds(false);
  if (backward) work.seconds(true);  // every slot has held finite numbers
  if constexpr (requires { comm.inner().reset(); }) comm.inner().reset();
  std::vector<double> silent, moving, exposed;
  const std::int64_t sent_before = work.bytes_sent();
  for (int pair = 0; pair < static_cast<int>(settings["pairs"]); ++pair) {
    double times[2] = {};
    for (const bool moves : {pair % 2 == 0, pair % 2 != 0}) {
      comm.set_moving(moves);
      times[moves] = work.seconds(backward);
    }
    silent.push_back(times[0]);
    moving.push_back(times[1]);
    exposed.push_back(times[1] / times[0] - 1);
  }
  comm.set_moving(true);
  double before_wait = 1;
  if constexpr (requires { comm.inner().traffic(); }) {
    const auto& traffic = comm.inner().traffic();
    before_wait = -largest(comm, -static_cast<double>(traffic.bytes_before_wait) /
                                     static_cast<double>(std::max<std::int64_t>(1, traffic.bytes)));
  }
  if (comm.rank() != 0) return;
  const double bytes = static_cast<double>(work.bytes_sent() - sent_before) / (2 * settings["pairs"]);
  std::printf(
      R"({"pass":"%s","ranks":%d,"tokens":%g,"chunk":%g,"polls":%g,"rate":%.4g,"MB_sent":%.4g,"silent_s":%.4f,"moving_s":%.4f,"exposed":%.4f,"exposed_min":%.4f,"exposed_max":%.4f,"moved_before_wait":%.4f})"
      "\n",
      backward ? "backward" : "forward", comm.size(), settings["tokens"], settings["chunk"], settings["polls"], rate,
      bytes * 1e-6, median(silent), median(moving), median(exposed), *std::min_element(exposed.begin(), exposed.end()),
      *std::max_element(exposed.begin(), exposed.end()), before_wait);
  std::fflush(stdout);
}

template <class Problem>
void run(const Problem& problem) {
  for (const bool backward : {false, true}) {
    if (settings.count("only") != 0 && (settings["only"] == 1) != !backward) continue;
    double rate = settings["rate"];
    if (settings["share"] > 0) {
      bench::silent comm{rondo::mpi_communicator<>{MPI_COMM_WORLD}};
      Work<decltype(comm), Problem> work(comm, problem);
      work.seconds(false);
      if (backward) work.seconds(true);
      comm.set_moving(false);
      const std::size_t from = work.recorder.events().size();
      work.seconds(backward);
      rate = rate_for(comm, work.recorder, from, settings["share"]);
    }
    if (rate > 0) {
      bench::silent comm{
          rondo::paced{rondo::mpi_communicator<>{MPI_COMM_WORLD}, rondo::Link{.bytes_per_second = rate}}};
      measure(comm, problem, backward, rate);
    } else {
      bench::silent comm{rondo::mpi_communicator<>{MPI_COMM_WORLD}};
      measure(comm, problem, backward, 0);
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  int level = 0;
  MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &level);
  for (int i = 1; i < argc; ++i) {
    const std::string text = argv[i];
    const auto equals = text.find('=');
    if (equals == std::string::npos) {
      std::fprintf(stderr, "bench_overlap: %s is not name=value\n", argv[i]);
      MPI_Abort(MPI_COMM_WORLD, 2);
    }
    settings[text.substr(0, equals)] = std::atof(text.c_str() + equals + 1);
  }
  {
    const Kokkos::ScopeGuard kokkos(argc, argv);
    if (settings["causal"] != 0) {
      run(rondo::Problem{rondo::causal{}});
    } else {
      run(rondo::Problem{rondo::full{}});
    }
  }
  MPI_Finalize();
}
