/// \file
/// Part (b): forward and backward over a packed sequence of a hundred million tokens in documents of some thousand, in one
/// call each, over several ranks.
#include "numbers.hpp"
#include "options.hpp"
#include "show.hpp"

#include <rondo/rondo.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <set>
#include <string>
#include <vector>

namespace hundred_million {
namespace {

using nlohmann::json;
constexpr int dim = 2;  // eight tensors of a hundred million tokens are to fit in 8 GiB
const rondo::Shape shape{.heads = 1, .head_dim = dim};
using View4 = Kokkos::View<float****, Kokkos::LayoutRight, Kokkos::HostSpace>;
using View3 = Kokkos::View<float***, Kokkos::LayoutRight, Kokkos::HostSpace>;

float input(Stream stream, std::int64_t token, int d) {
  return (stream == Stream::q || stream == Stream::k ? 2.0f : 1.0f) *
         number(stream, static_cast<std::uint64_t>(token), d);
}

/// Documents of 500 to 3500 tokens.
std::vector<std::int64_t> document_ends(std::int64_t tokens) {
  std::vector<std::int64_t> offsets{0};
  while (offsets.back() < tokens) {
    const auto length = 500 + static_cast<std::int64_t>(bits(Stream::length, offsets.size(), 0) % 3001);
    offsets.push_back(std::min(tokens, offsets.back() + length));
  }
  return offsets;
}

/// Contiguous shards of which those in the middle are a few hundred tokens long, so that documents span several ranks; or
/// striped ones, where every document is on every rank and every key travels to all.
struct spread {
  std::int64_t tokens = 0;
  bool stripes = false;
  static constexpr int code = 50;

  std::int64_t total_tokens() const { return tokens; }
  std::int64_t cut(int rank, int ranks) const {
    const std::int64_t small = std::min<std::int64_t>(400, tokens / ranks);
    if (rank == 0) return 0;
    if (rank == ranks) return tokens;
    return tokens / 2 + small * (2 * rank - ranks) / 2;  // first and last share what the others leave
  }
  std::vector<rondo::Run> runs(int rank, int ranks) const {
    if (stripes) return rondo::striped{tokens}.runs(rank, ranks);
    const std::int64_t begin = cut(rank, ranks), end = cut(rank + 1, ranks);
    if (begin == end) return {};
    return {rondo::Run{begin, 1, static_cast<std::int32_t>(end - begin)}};
  }
};

/// One document in double: out, lse and the three gradients, [token][dim].
struct Exact {
  std::int64_t first, length;
  std::vector<double> out, lse, grad_q, grad_k, grad_v;

  Exact(std::int64_t begin, std::int64_t end)
      : first(begin), length(end - begin), lse(static_cast<std::size_t>(length)) {
    const auto n = static_cast<std::size_t>(length);
    for (auto* tensor : {&out, &grad_q, &grad_k, &grad_v}) tensor->assign(n * dim, 0.0);
    const auto all = [&](Stream stream) {
      std::vector<double> values(n * dim);
      for (std::size_t i = 0; i < n * dim; ++i) {
        values[i] =
            static_cast<double>(input(stream, first + static_cast<std::int64_t>(i / dim), static_cast<int>(i % dim)));
      }
      return values;
    };
    const auto q = all(Stream::q), k = all(Stream::k), v = all(Stream::v), grad = all(Stream::grad);
    const double scale = 1 / std::sqrt(double{dim});
    const auto dot = [](const double* a, const double* b) {
      double sum = 0;
      for (int d = 0; d < dim; ++d) sum += a[d] * b[d];
      return sum;
    };
    std::vector<double> p(n);
    for (std::size_t i = 0; i < n; ++i) {
      double l = 0;
      for (std::size_t j = 0; j <= i; ++j) l += p[j] = std::exp(scale * dot(&q[i * dim], &k[j * dim]));
      lse[i] = std::log(l);
      for (std::size_t j = 0; j <= i; ++j) {
        p[j] /= l;
        for (std::size_t d = 0; d < dim; ++d) out[i * dim + d] += p[j] * v[j * dim + d];
      }
      const double delta = dot(&out[i * dim], &grad[i * dim]);
      for (std::size_t j = 0; j <= i; ++j) {
        const double ds = scale * p[j] * (dot(&grad[i * dim], &v[j * dim]) - delta);
        for (std::size_t d = 0; d < dim; ++d) {
          grad_v[j * dim + d] += p[j] * grad[i * dim + d];
          grad_q[i * dim + d] += ds * k[j * dim + d];
          grad_k[j * dim + d] += ds * q[i * dim + d];
        }
      }
    }
  }
};

double root_mean_square(const std::vector<double>& values) {
  double sum = 0;
  for (const double x : values) sum += x * x;
  return std::sqrt(sum / static_cast<double>(values.size()));
}

/// The tokens of a run from `begin` to before `end`.
rondo::Run tokens_in(const rondo::Run& run, std::int64_t begin, std::int64_t end) {
  const rondo::IndexRange range = rondo::indices_in({begin, end}, run);
  return run.part(range.begin, range.end - range.begin);
}

/// How many times rank 0 exchanges something, forward and backward.
template <class Mask>
std::int64_t steps_of(const rondo::ShardTable& table, const Mask& mask, std::int64_t chunk) {
  rondo::schedule::SkippingRing skipping;
  skipping.update(0, table, table, mask, shape.batch, shape.heads, chunk);
  const rondo::schedule::Ring ring(0, table.ranks(), table.most_pieces(chunk));
  return skipping.needs().all() ? ring.forward_steps() + ring.backward_steps()
                                : skipping.forward_steps() + skipping.backward_steps();
}

/// A rank's tensors, all of their memory touched, so that it does not grow while they are written.
struct Shard {
  View4 q, k, v, grad, out, grad_q, grad_k, grad_v;
  View3 lse;
  explicit Shard(std::int64_t tokens) : lse("lse", 1, 1, tokens) {
    for (View4* view : {&q, &k, &v, &grad, &out, &grad_q, &grad_k, &grad_v}) {
      *view = View4("shard", 1, tokens, 1, dim);
    }
  }
};

std::filesystem::path saved_forward(const Options& options, int rank) {
  return options.checkpoint.string() + "." + std::to_string(rank);
}

std::string identity(const Options& options) {
  return rondo::detail::message("documents ", options.tokens, " ", options.ranks, " ", options.chunk, " ",
                                options.sharding, "\n");
}

void save_forward(const Options& options, int rank, const Shard& mine) {
  const auto file = saved_forward(options, rank);
  const auto unfinished = file.string() + ".unfinished";
  std::ofstream out(unfinished, std::ios::binary);
  out << identity(options);
  const auto write = [&](const auto& view) {
    out.write(reinterpret_cast<const char*>(view.data()), static_cast<std::streamsize>(view.size() * sizeof(float)));
  };
  write(mine.out);
  write(mine.lse);
  out.close();
  if (!out) throw std::runtime_error(unfinished + " cannot be written");
  std::filesystem::rename(unfinished, file);
}

bool load_forward(const Options& options, int rank, const Shard& mine) {
  std::ifstream in(saved_forward(options, rank), std::ios::binary);
  if (!in) return false;
  std::string line;
  std::getline(in, line);
  if (line + "\n" != identity(options)) {
    throw std::runtime_error(saved_forward(options, rank).string() + " is of another run: " + line);
  }
  const auto read = [&](const auto& view) {
    in.read(reinterpret_cast<char*>(view.data()), static_cast<std::streamsize>(view.size() * sizeof(float)));
  };
  read(mine.out);
  read(mine.lse);
  if (!in) throw std::runtime_error(saved_forward(options, rank).string() + " ends early");
  return true;
}

}  // namespace

json run_documents(const Options& options) {
  const std::vector<std::int64_t> offsets = document_ends(options.tokens);
  const rondo::Documents<Kokkos::HostSpace> documents(offsets);
  const rondo::Problem problem{documents.mask() & rondo::causal{}};
  const spread sharding{options.tokens, options.sharding == "striped"};
  const rondo::ShardTable table(sharding, options.ranks);

  // Documents to look at: those on both sides of every border of contiguous shards, the first, the last, and some between.
  std::set<std::int64_t> checked{0, static_cast<std::int64_t>(offsets.size()) - 2};
  std::int64_t most_ranks_spanned = 1;
  const auto document_of = [&](std::int64_t token) {
    return std::upper_bound(offsets.begin(), offsets.end(), token) - offsets.begin() - 1;
  };
  for (int rank = 1; rank < options.ranks; ++rank) {
    const std::int64_t cut = sharding.cut(rank, options.ranks);
    if (cut > 0) checked.insert(document_of(cut - 1));
    if (cut < options.tokens) checked.insert(document_of(cut));
  }
  for (int i = 0; i < options.documents_checked; ++i) {
    checked.insert(
        static_cast<std::int64_t>(bits(Stream::length, static_cast<std::uint64_t>(i), 7) % (offsets.size() - 1)));
  }
  std::vector<Exact> exact;
  for (const std::int64_t document : checked) {
    const std::int64_t begin = offsets[static_cast<std::size_t>(document)],
                       end = offsets[static_cast<std::size_t>(document) + 1];
    exact.emplace_back(begin, end);
    std::int64_t spanned = 0;
    for (int rank = 0; rank < options.ranks; ++rank) {
      for (const rondo::Run& run : table.runs(rank)) spanned += tokens_in(run, begin, end).count > 0 ? 1 : 0;
    }
    most_ranks_spanned = std::max(most_ranks_spanned, spanned);
  }

  Progress progress("documents", steps_of(table, problem.mask, options.chunk));
  std::array<double, 2> seconds{};
  std::array<std::int64_t, 2> resident{};
  std::int64_t bytes_sent = 0;
  double farthest = 0;
  std::int64_t numbers_checked = 0;
  rondo::in_process_group<Exec>(options.ranks, {.deadline = rondo::Deadline{7200}}).run([&](auto& group_comm) {
    watched comm(group_comm, group_comm.rank() == 0 ? &progress : nullptr);
    rondo::RingAttention attention{comm, shape, sharding, rondo::default_kernel<float, Exec>{},
                                   rondo::Options{.chunk = options.chunk}};
    const Shard mine(attention.tokens());
    attention.shards().for_each_token(comm.rank(), [&](std::int64_t token, std::int64_t row) {
      for (int d = 0; d < dim; ++d) {
        mine.q(0, row, 0, d) = input(Stream::q, token, d);
        mine.k(0, row, 0, d) = input(Stream::k, token, d);
        mine.v(0, row, 0, d) = input(Stream::v, token, d);
        mine.grad(0, row, 0, d) = input(Stream::grad, token, d);
      }
    });
    comm.barrier();
    if (comm.rank() == 0) resident[0] = resident_bytes();
    double begin = now();
    const bool saved = !options.checkpoint.empty() && load_forward(options, comm.rank(), mine);
    if (!comm.agree(saved)) {
      attention.forward(mine.q, mine.k, mine.v, mine.out, mine.lse, problem);
      if (!options.checkpoint.empty()) save_forward(options, comm.rank(), mine);
    } else if (comm.rank() == 0) {
      std::printf("forward is taken from %s\n", options.checkpoint.c_str());
    }
    comm.barrier();
    if (comm.rank() == 0) seconds[0] = now() - begin;
    if (options.stop_after > 0) return;
    begin = now();
    attention.backward(mine.q, mine.k, mine.v, mine.out, mine.lse, mine.grad, mine.grad_q, mine.grad_k, mine.grad_v,
                       problem);
    comm.barrier();
    if (comm.rank() == 0) {
      seconds[1] = now() - begin;
      resident[1] = resident_bytes();
    }

    for (int turn = 0; turn < comm.size(); ++turn) {
      if (turn == comm.rank()) {
        bytes_sent += attention.statistics().bytes_sent;
        std::int64_t row = 0;
        for (const rondo::Run& run : attention.shards().runs(comm.rank())) {
          for (const Exact& document : exact) {
            const rondo::Run tokens = tokens_in(run, document.first, document.first + document.length);
            const std::int64_t first_row = tokens.count == 0 ? 0 : row + (tokens.first - run.first) / run.stride;
            const auto compare = [&](const View4& found, const std::vector<double>& right) {
              const double size = root_mean_square(right);
              for (std::int32_t i = 0; i < tokens.count; ++i) {
                for (int d = 0; d < dim; ++d) {
                  const double difference = static_cast<double>(found(0, first_row + i, 0, d)) -
                                            right[static_cast<std::size_t>((tokens.at(i) - document.first) * dim + d)];
                  const double error = std::abs(difference) / size;
                  farthest = error <= farthest ? farthest : error;  // NaN too
                  ++numbers_checked;
                }
              }
            };
            compare(mine.out, document.out);
            compare(mine.grad_q, document.grad_q);
            compare(mine.grad_k, document.grad_k);
            compare(mine.grad_v, document.grad_v);
            for (std::int32_t i = 0; i < tokens.count; ++i) {
              const double error = std::abs(static_cast<double>(mine.lse(0, 0, first_row + i)) -
                                            document.lse[static_cast<std::size_t>(tokens.at(i) - document.first)]);
              farthest = error <= farthest ? farthest : error;
            }
          }
          row += run.count;
        }
      }
      comm.barrier();
    }
  });
  if (options.stop_after > 0) return {{"part", "documents"}, {"finished", false}, {"tokens", options.tokens}};
  if (!options.checkpoint.empty()) {
    for (int rank = 0; rank < options.ranks; ++rank) std::filesystem::remove(saved_forward(options, rank));
  }
  return {{"part", "documents"},
          {"finished", true},
          {"tokens", options.tokens},
          {"ranks", options.ranks},
          {"sharding", options.sharding},
          {"chunk", options.chunk},
          {"head_dim", dim},
          {"documents", offsets.size() - 1},
          {"documents_checked", exact.size()},
          {"numbers_checked", numbers_checked},
          {"most_ranks_spanned", most_ranks_spanned},
          {"seconds", seconds[0] + seconds[1]},
          {"forward_seconds", seconds[0]},
          {"backward_seconds", seconds[1]},
          {"bytes_sent", bytes_sent},
          {"resident_bytes_before", resident[0]},
          {"resident_bytes_after", resident[1]},
          {"max_error", farthest},
          {"right", farthest < tolerance && numbers_checked > 0}};
}

}  // namespace hundred_million
