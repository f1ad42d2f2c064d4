// How much of the communication is not hidden: pairs of calls over MPI, one with messages and one that moves nothing, in
// turns; half of the pairs the other way round. Under mpiexec, one thread a rank:
//   mpiexec -n 2 build/release/bin/bench_overlap tokens=16384 heads=8 dim=64 pairs=5 chunk=4096 share=0.8 causal=1
// share > 0: behind a link (rondo::paced) on which the largest transfer of a step takes that share of its computation;
// rate > 0: behind a link of so many bytes per second. Both print what was predicted from the steps' computation alone.
// passes: 1 forward, 2 backward, 3 both.
// methods=1: four ways to let messages move, in turns: asking between the kernel's tiles (the engine's way), between
// parts of the queries (polls of them a step), at the ends of smaller pieces, and a thread that asks every 100 µs.
// Prints a line of JSON for each pass and method.
#include <support/progress_thread.hpp>
#include <support/silent.hpp>
#include <support/tensors.hpp>

#include <rondo/comm/mpi.hpp>
#include <rondo/comm/paced.hpp>
#include <rondo/rondo.hpp>

#include <tests/support/any_communicator.hpp>

#include <mpi.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace {

using rondo::test::any_communicator;
using Comm = bench::silent<any_communicator>;

std::map<std::string, double> settings{{"tokens", 16384}, {"heads", 8},    {"dim", 64},   {"pairs", 5},
                                       {"polls", 16},     {"chunk", 4096}, {"share", 0},  {"rate", 0},
                                       {"causal", 1},     {"passes", 3},   {"methods", 0}};

enum class Method { tiles, parts, pieces, thread };
constexpr const char* method_names[] = {"tiles", "parts", "pieces", "thread"};

/// The kernel, without what lets the engine ask between its tiles.
struct kernel_in_parts : rondo::host_kernel<float> {
  void set_progress(rondo::ProgressCallback) = delete;
};
static_assert(!rondo::ReportsProgress<kernel_in_parts> && rondo::ReportsProgress<rondo::host_kernel<float>>);

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const std::size_t n = values.size();
  return n % 2 == 1 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

double largest(Comm& comm, double value) {
  comm.all_reduce(std::span{&value, 1}, rondo::Reduction::maximum);
  return value;
}

/// One rank's inputs and outputs, the same for every method.
struct Tensors {
  Tensors(std::int64_t tokens, int heads, int dim, int rank) : lse("lse", 1, heads, tokens) {
    for (auto* tensor : {&q, &k, &v, &grad_out})
      *tensor = bench::random_tensor<float>(tokens, heads, dim, static_cast<std::uint32_t>(10 * rank + ++seed));
    for (auto* tensor : {&out, &grad_q, &grad_k, &grad_v})
      *tensor = bench::Tensor4<float>("out", 1, tokens, heads, dim);
  }
  bench::Tensor4<float> q, k, v, grad_out, out, grad_q, grad_k, grad_v;
  bench::Tensor3<float> lse;
  int seed = 0;
};

/// What is timed: a pass over a communicator, with messages or without.
class Timed {
 public:
  virtual ~Timed() = default;
  /// Seconds of the slowest rank.
  virtual double seconds(bool backward, bool moves) = 0;
  virtual const rondo::Statistics& statistics() const = 0;
  rondo::Recorder recorder;
  rondo::PacedTraffic traffic() const { return traffic_ ? *traffic_ : rondo::PacedTraffic{}; }

 protected:
  const rondo::PacedTraffic* traffic_ = nullptr;
};

template <class Problem, class Kernel>
class Ring : public Timed {
 public:
  Ring(const Problem& problem, Method method, double rate)
      : problem_(problem),
        comm_(communicator(method, rate)),
        attention_(comm_, rondo::Shape{.heads = heads(), .head_dim = dim()},
                   rondo::striped{static_cast<std::int64_t>(settings["tokens"])}, {},
                   {.chunk = static_cast<std::int64_t>(settings["chunk"]) / (method == Method::pieces ? 4 : 1),
                    .polls = method == Method::pieces ? 1 : static_cast<int>(settings["polls"]),
                    .recorder = &recorder}),
        tensors_(attention_.tokens(), heads(), dim(), comm_.rank()) {
    seconds(false, true);
    seconds(true, true);  // every place for visitors has held finite numbers
  }

  double seconds(bool backward, bool moves) override {
    Tensors& t = tensors_;
    comm_.set_moving(moves);
    comm_.barrier();
    const double begin = rondo::Recorder::now();
    if (backward) {
      attention_.backward(t.q, t.k, t.v, t.out, t.lse, t.grad_out, t.grad_q, t.grad_k, t.grad_v, problem_);
    } else {
      attention_.forward(t.q, t.k, t.v, t.out, t.lse, problem_);
    }
    return largest(comm_, rondo::Recorder::now() - begin);
  }
  const rondo::Statistics& statistics() const override { return attention_.statistics(); }

 private:
  static int heads() { return static_cast<int>(settings["heads"]); }
  static int dim() { return static_cast<int>(settings["dim"]); }

  Comm communicator(Method method, double rate) {
    const auto asked_by = [&](auto comm) {
      if (method != Method::thread) return Comm(any_communicator(std::move(comm)));
      return Comm(any_communicator(bench::progress_thread(std::move(comm), std::chrono::microseconds(100))));
    };
    rondo::mpi_communicator<> mpi{MPI_COMM_WORLD};
    if (rate == 0) return asked_by(std::move(mpi));
    rondo::paced behind_link{std::move(mpi), rondo::Link{.bytes_per_second = rate}};
    traffic_ = &behind_link.traffic();
    return asked_by(std::move(behind_link));
  }

  Problem problem_;
  Comm comm_;
  rondo::RingAttention<Comm, rondo::striped, Kernel> attention_;
  Tensors tensors_;
};

template <class Problem>
std::unique_ptr<Timed> timed(const Problem& problem, Method method, double rate) {
  if (method == Method::parts || method == Method::pieces)
    return std::make_unique<Ring<Problem, kernel_in_parts>>(problem, method, rate);
  return std::make_unique<Ring<Problem, rondo::host_kernel<float>>>(problem, method, rate);
}

/// The bandwidth at which the largest transfer of a step takes `share` of that step's computation.
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

/// Seconds by which a link of `rate` bytes per second makes the slowest rank slower, were there nothing else: a step takes
/// as long as its computation or its transfer, whichever is longer.
double added_by(Comm& comm, const rondo::Recorder& recorder, std::size_t from, double rate) {
  double compute = 0;
  double alone = 0;
  double behind_link = 0;
  for (std::size_t i = from; i < recorder.events().size(); ++i) {
    const rondo::Event& event = recorder.events()[i];
    if (event.kind == rondo::Event::Kind::compute) {
      compute = event.end - event.begin;
      alone += compute;
      behind_link += compute;
    }
    if (event.kind == rondo::Event::Kind::send)
      behind_link += std::max(0.0, static_cast<double>(event.bytes) / rate - compute);
  }
  return largest(comm, behind_link) - largest(comm, alone);
}

/// What one method gave.
struct Series {
  std::vector<double> silent, moving, exposed, over, predicted;
};

template <class Problem>
void measure(Comm& world, const Problem& problem, bool backward, double rate) {
  std::vector<std::unique_ptr<Timed>> rings;
  for (int method = 0; method < (settings["methods"] != 0 ? 4 : 1); ++method)
    rings.push_back(timed(problem, static_cast<Method>(method), rate));
  std::vector<Series> series(rings.size());
  std::vector<rondo::PacedTraffic> before;
  for (const auto& ring : rings) before.push_back(ring->traffic());
  const std::int64_t sent_before = rings[0]->statistics().bytes_sent;
  for (int pair = 0; pair < static_cast<int>(settings["pairs"]); ++pair) {
    double undisturbed = 0;
    for (std::size_t i = 0; i < rings.size(); ++i) {
      double times[2] = {};
      for (const bool moves : {pair % 2 == 0, pair % 2 != 0}) {
        const std::size_t from = rings[i]->recorder.events().size();
        times[moves] = rings[i]->seconds(backward, moves);
        if (!moves && rate > 0)
          series[i].predicted.push_back(added_by(world, rings[i]->recorder, from, rate) / times[0]);
      }
      if (i == 0) undisturbed = times[0];
      series[i].silent.push_back(times[0]);
      series[i].moving.push_back(times[1]);
      series[i].exposed.push_back(times[1] / times[0] - 1);
      series[i].over.push_back(times[1] / undisturbed - 1);
    }
  }
  const double bytes = static_cast<double>(rings[0]->statistics().bytes_sent - sent_before) / (2 * settings["pairs"]);
  for (std::size_t i = 0; i < rings.size(); ++i) {
    const rondo::PacedTraffic traffic = rings[i]->traffic();
    const auto moved = static_cast<double>(traffic.bytes_before_wait - before[i].bytes_before_wait);
    const auto all = static_cast<double>(std::max<std::int64_t>(1, traffic.bytes - before[i].bytes));
    const double before_wait = -largest(world, -moved / all);
    if (world.rank() != 0) continue;
    const Series& s = series[i];
    std::printf(
        R"({"pass":"%s","method":"%s","ranks":%d,"tokens":%g,"chunk":%g,"rate":%.4g,"MB_sent":%.4g,"silent_s":%.4f,"moving_s":%.4f,"exposed":%.4f,"exposed_min":%.4f,"exposed_max":%.4f,"over_undisturbed":%.4f,"predicted":%s,"moved_before_wait":%s})"
        "\n",
        backward ? "backward" : "forward", method_names[i], world.size(), settings["tokens"], settings["chunk"], rate,
        bytes * 1e-6, median(s.silent), median(s.moving), median(s.exposed), *std::ranges::min_element(s.exposed),
        *std::ranges::max_element(s.exposed), median(s.over),
        rate > 0 ? std::to_string(median(s.predicted)).c_str() : "null",
        rate > 0 ? std::to_string(before_wait).c_str() : "null");
    std::fflush(stdout);
  }
}

template <class Problem>
void run(const Problem& problem) {
  Comm world(any_communicator(rondo::mpi_communicator<>{MPI_COMM_WORLD}));
  for (const bool backward : {false, true}) {
    if ((static_cast<int>(settings["passes"]) & (backward ? 2 : 1)) == 0) continue;
    double rate = settings["rate"];
    if (settings["share"] > 0) {
      const auto ring = timed(problem, Method::tiles, 0);
      const std::size_t from = ring->recorder.events().size();
      ring->seconds(backward, false);
      rate = rate_for(world, ring->recorder, from, settings["share"]);
    }
    measure(world, problem, backward, rate);
  }
}

}  // namespace

int main(int argc, char** argv) {
  int level = 0;
  MPI_Init_thread(&argc, &argv, MPI_THREAD_SERIALIZED, &level);
  for (int i = 1; i < argc; ++i) {
    const std::string text = argv[i];
    const auto equals = text.find('=');
    if (equals == std::string::npos || settings.count(text.substr(0, equals)) == 0) {
      std::fprintf(stderr, "bench_overlap: %s is not name=value, or there is no such name\n", argv[i]);
      rondo::abort_all(MPI_COMM_WORLD, 2);
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
