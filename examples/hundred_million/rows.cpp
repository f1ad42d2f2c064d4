/// \file
/// Part (a): exact attention of a few query rows over a hundred million keys. Keys and values are made piece by piece while
/// the ring computes; nothing of the sequence is kept.
#include "numbers.hpp"
#include "options.hpp"
#include "show.hpp"

#include <rondo/mapped_source.hpp>
#include <rondo/rondo.hpp>
#include <rondo/source.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

namespace hundred_million {
namespace {

using nlohmann::json;
constexpr int dim = 64;
const rondo::Shape shape{.heads = 1, .head_dim = dim};
constexpr float query_lift = 4;

/// The keys' numbers. One key in every piece is strong: with all of them half of the weight, so that no piece can be missing
/// unnoticed. Element 0 of every query is `query_lift`; of a key it is 0, or what makes the strong one strong.
class Keys {
 public:
  Keys(std::int64_t tokens, std::int64_t spacing)
      : tokens_(tokens),
        spacing_(spacing),
        lift_(static_cast<float>(std::sqrt(double{dim}) / static_cast<double>(query_lift) *
                                 std::log(static_cast<double>(spacing)))) {}

  bool strong(std::int64_t token) const {
    const std::int64_t part = token / spacing_;
    const std::int64_t size = std::min(spacing_, tokens_ - part * spacing_);
    return token - part * spacing_ == bits(Stream::length, static_cast<std::uint64_t>(part), 0) % size;
  }
  void write(std::int64_t token, float* k, float* v) const {
    const auto place = static_cast<std::uint64_t>(token);
    for (int d = 0; d < dim; ++d) k[d] = number(Stream::k, place, d);
    for (int d = 0; d < dim; ++d) v[d] = number(Stream::v, place, d);
    k[0] = strong(token) ? lift_ : 0;
  }

 private:
  std::int64_t tokens_, spacing_;
  float lift_;
};

/// All keys, and behind them all values, as mapped_source reads them. A file that is there and as long is taken as it is.
void write_file(const std::filesystem::path& path, const Keys& keys, std::int64_t tokens) {
  const auto size = static_cast<std::uintmax_t>(2 * tokens * dim) * sizeof(float);
  if (std::filesystem::exists(path) && std::filesystem::file_size(path) == size) return;
  const auto unfinished = path.string() + ".unfinished";
  std::ofstream out(unfinished, std::ios::binary);
  Progress progress("writing", 2 * ((tokens + 65'535) / 65'536));
  std::vector<float> block, other(dim);
  for (const bool values : {false, true}) {
    for (std::int64_t begin = 0; begin < tokens; begin += 65'536) {
      const std::int64_t count = std::min<std::int64_t>(65'536, tokens - begin);
      block.resize(static_cast<std::size_t>(count) * dim);
      for (std::int64_t i = 0; i < count; ++i) {
        float* const row = block.data() + i * dim;
        keys.write(begin + i, values ? other.data() : row, values ? row : other.data());
      }
      out.write(reinterpret_cast<const char*>(block.data()),
                static_cast<std::streamsize>(block.size() * sizeof(float)));
      progress.step();
    }
  }
  out.close();
  if (!out) throw std::runtime_error(unfinished + " cannot be written");
  std::filesystem::rename(unfinished, path);
}

float query(std::int64_t row, int d) {
  return d == 0 ? query_lift : number(Stream::q, static_cast<std::uint64_t>(row), d);
}

/// Unnormalised attention of rows over some keys, in double: Σ e^score, Σ e^score·v. Scores stay small enough for that.
struct Sums {
  std::vector<double> l, acc;
  explicit Sums(int rows) : l(static_cast<std::size_t>(rows)), acc(static_cast<std::size_t>(rows) * dim) {}
  void add(const Sums& other) {
    for (std::size_t i = 0; i < l.size(); ++i) l[i] += other.l[i];
    for (std::size_t i = 0; i < acc.size(); ++i) acc[i] += other.acc[i];
  }
};

void sum_reference(const Keys& keys, std::int64_t begin, std::int64_t end, Sums& sums) {
  const int rows = static_cast<int>(sums.l.size());
  std::vector<double> q(static_cast<std::size_t>(rows) * dim);
  for (int row = 0; row < rows; ++row) {
    for (int d = 0; d < dim; ++d)
      q[static_cast<std::size_t>(row * dim + d)] = static_cast<double>(query(row, d)) / std::sqrt(double{dim});
  }
  float narrow_k[dim], narrow_v[dim];
  double k[dim], v[dim];
  for (std::int64_t token = begin; token < end; ++token) {
    keys.write(token, narrow_k, narrow_v);
    for (int d = 0; d < dim; ++d) k[d] = static_cast<double>(narrow_k[d]), v[d] = static_cast<double>(narrow_v[d]);
    for (int row = 0; row < rows; ++row) {
      const double* mine = q.data() + row * dim;
      double parts[8] = {};
      for (int d = 0; d < dim; d += 8) {
        for (int lane = 0; lane < 8; ++lane) parts[lane] += mine[d + lane] * k[d + lane];
      }
      const double score =
          ((parts[0] + parts[1]) + (parts[2] + parts[3])) + ((parts[4] + parts[5]) + (parts[6] + parts[7]));
      const double p = std::exp(score);
      sums.l[static_cast<std::size_t>(row)] += p;
      double* acc = sums.acc.data() + row * dim;
      for (int d = 0; d < dim; ++d) acc[d] += p * v[d];
    }
  }
}

/// Evaluates keys [begin, end) on all of the machine's threads.
Sums reference(const Keys& keys, std::int64_t begin, std::int64_t end, int rows) {
  const auto threads = static_cast<std::int64_t>(std::max(1u, std::thread::hardware_concurrency()));
  std::vector<Sums> sums(static_cast<std::size_t>(threads), Sums(rows));
  std::vector<std::thread> workers;
  for (std::int64_t t = 0; t < threads; ++t) {
    workers.emplace_back([&, t] {
      sum_reference(keys, begin + (end - begin) * t / threads, begin + (end - begin) * (t + 1) / threads,
                    sums[static_cast<std::size_t>(t)]);
    });
  }
  for (std::thread& worker : workers) worker.join();
  for (std::size_t t = 1; t < sums.size(); ++t) sums[0].add(sums[t]);
  return sums[0];
}

/// What is known after some of the keys: the ring's sums and the reference's. A run that is interrupted goes on from here.
struct State {
  std::int64_t done = 0;
  double ring_seconds = 0, reference_seconds = 0;
  std::int64_t bytes_sent = 0;
  Sums ring, exact;

  explicit State(int rows) : ring(rows), exact(rows) {}

  json identity(const Options& options) const {
    return {{"tokens", options.tokens}, {"ranks", options.ranks},     {"rows", options.rows},
            {"chunk", options.chunk},   {"segment", options.segment}, {"file", options.file.string()}};
  }
  void save(const Options& options) const {
    const auto unfinished = options.checkpoint.string() + ".unfinished";
    std::ofstream out(unfinished);
    out << json{{"run", identity(options)},     {"done", done},
                {"ring_seconds", ring_seconds}, {"reference_seconds", reference_seconds},
                {"bytes_sent", bytes_sent},     {"ring_l", ring.l},
                {"ring_acc", ring.acc},         {"exact_l", exact.l},
                {"exact_acc", exact.acc}};
    out.close();
    if (!out) throw std::runtime_error(unfinished + " cannot be written");
    std::filesystem::rename(unfinished, options.checkpoint);
  }
  void load(const Options& options) {
    std::ifstream in(options.checkpoint);
    if (!in) return;
    const json saved = json::parse(in, nullptr, false);
    if (saved.is_discarded() || saved.value("run", json()) != identity(options)) {
      throw std::runtime_error(options.checkpoint.string() + " is of another run: " +
                               saved.value("run", json()).dump() + ", this one is " + identity(options).dump());
    }
    done = saved.at("done");
    ring_seconds = saved.at("ring_seconds");
    reference_seconds = saved.at("reference_seconds");
    bytes_sent = saved.at("bytes_sent");
    ring.l = saved.at("ring_l").get<std::vector<double>>();
    ring.acc = saved.at("ring_acc").get<std::vector<double>>();
    exact.l = saved.at("exact_l").get<std::vector<double>>();
    exact.acc = saved.at("exact_acc").get<std::vector<double>>();
    std::printf("going on from %s after %lld keys\n", options.checkpoint.c_str(), static_cast<long long>(done));
  }
};

/// The ring over keys [begin, end): every rank makes or reads its own part of them, all see all.
void ring_segment(const Options& options, const Keys& keys, std::int64_t begin, std::int64_t end, State& state) {
  rondo::in_process_group<Exec>(options.ranks).run([&](auto& comm) {
    const rondo::cross sharding{rondo::contiguous{std::int64_t{options.rows} * options.ranks},
                                rondo::contiguous{end - begin}};
    rondo::RingAttention attention{comm, shape, sharding, rondo::default_kernel<float, Exec>{},
                                   rondo::Options{.chunk = options.chunk, .backward = false}};
    const auto rows = static_cast<std::size_t>(options.rows);
    const Kokkos::View<float****, Kokkos::LayoutRight, Kokkos::HostSpace> q("q", 1, rows, 1, dim),
        out("out", 1, rows, 1, dim);
    const Kokkos::View<float***, Kokkos::LayoutRight, Kokkos::HostSpace> lse("lse", 1, 1, rows);
    const std::int64_t first = comm.rank() * std::int64_t{options.rows};
    for (std::size_t i = 0; i < rows; ++i) {
      for (int d = 0; d < dim; ++d) q(0, i, 0, d) = query(first + static_cast<std::int64_t>(i), d);
    }
    if (options.file.empty()) {
      auto made = rondo::make_streamed_source<float>(
          shape, attention.chunk(), [&](const rondo::Part& part, const auto& k, const auto& v) {
            for (std::int64_t i = 0; i < part.tokens.count; ++i)
              keys.write(begin + part.tokens.at(i), &k(0, i, 0, 0), &v(0, i, 0, 0));
            const std::int64_t missing = options.leave_out - begin - part.tokens.first;
            if (options.leave_out >= 0 && missing >= 0 && missing < part.tokens.count) {
              for (std::int64_t i = 0; i < part.tokens.count; ++i) k(0, i, 0, 0) = -1000;  // as good as not there
            }
          });
      attention.forward(comm.execution_instance(), q, made, out, lse);
    } else {
      const auto values_at = static_cast<std::uint64_t>(options.tokens * dim) * sizeof(float);
      rondo::mapped_source<float> read(options.file, shape, options.tokens, 0, values_at, begin);
      attention.forward(comm.execution_instance(), q, read, out, lse);
    }
    comm.barrier();
    for (int turn = 0; turn < comm.size(); ++turn) {
      if (turn == comm.rank()) {
        for (std::size_t i = 0; i < rows; ++i) {
          const double l = std::exp(static_cast<double>(lse(0, 0, i)));
          const std::size_t row = static_cast<std::size_t>(first) + i;
          state.ring.l[row] += l;
          for (int d = 0; d < dim; ++d)
            state.ring.acc[row * dim + static_cast<std::size_t>(d)] += l * static_cast<double>(out(0, i, 0, d));
        }
        state.bytes_sent += attention.statistics().bytes_sent;
      }
      comm.barrier();
    }
  });
}

}  // namespace

json run_rows(const Options& options) {
  const int rows = options.ranks * options.rows;
  const Keys keys(options.tokens, std::min(options.chunk, options.segment / options.ranks));
  if (!options.file.empty()) write_file(options.file, keys, options.tokens);
  State state(rows);
  if (!options.checkpoint.empty()) state.load(options);
  const std::int64_t segments = (options.tokens + options.segment - 1) / options.segment;
  Progress progress("rows", segments, state.done / options.segment);
  for (std::int64_t count = 0; state.done < options.tokens; ++count) {
    if (options.stop_after > 0 && count == options.stop_after)
      return {{"part", "rows"}, {"finished", false}, {"tokens", state.done}};
    const std::int64_t end = std::min(options.tokens, state.done + options.segment);
    double begin = now();
    ring_segment(options, keys, state.done, end, state);
    state.ring_seconds += now() - begin;
    begin = now();
    state.exact.add(reference(keys, state.done, end, rows));
    state.reference_seconds += now() - begin;
    state.done = end;
    if (!options.checkpoint.empty()) state.save(options);
    progress.step();
  }

  double farthest = 0, farthest_lse = 0;
  for (int row = 0; row < rows; ++row) {
    const auto at = static_cast<std::size_t>(row);
    double square = 0, most = 0;
    for (std::size_t d = 0; d < dim; ++d) {
      const double right = state.exact.acc[at * dim + d] / state.exact.l[at];
      const double found = state.ring.acc[at * dim + d] / state.ring.l[at];
      square += right * right / dim;
      most = std::max(most, std::abs(found - right));
    }
    farthest = std::max(farthest, most / std::sqrt(square));
    farthest_lse = std::max(farthest_lse, std::abs(std::log(state.ring.l[at] / state.exact.l[at])));
  }
  return {{"part", "rows"},
          {"finished", true},
          {"tokens", options.tokens},
          {"ranks", options.ranks},
          {"query_rows", rows},
          {"head_dim", dim},
          {"seconds", state.ring_seconds},
          {"reference_seconds", state.reference_seconds},
          {"bytes_sent", state.bytes_sent},
          {"max_error", farthest},
          {"max_error_lse", farthest_lse},
          {"right", farthest < tolerance && farthest_lse < tolerance}};
}

}  // namespace hundred_million
