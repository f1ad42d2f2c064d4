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

/// Contiguous shards of which those in the middle are a few hundred tokens long: documents span several ranks.
struct uneven {
  std::int64_t tokens = 0;
  static constexpr int code = 50;

  std::int64_t total_tokens() const { return tokens; }
  static std::int64_t cut(std::int64_t tokens, int rank, int ranks) {
    const std::int64_t small = std::min<std::int64_t>(400, tokens / ranks);
    if (rank == 0) return 0;
    if (rank == ranks) return tokens;
    return tokens / 2 + small * (2 * rank - ranks) / 2;  // first and last share what the others leave
  }
  std::vector<rondo::Run> runs(int rank, int ranks) const {
    const std::int64_t begin = cut(tokens, rank, ranks), end = cut(tokens, rank + 1, ranks);
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

/// A rank's tensors.
struct Shard {
  View4 q, k, v, grad, out, grad_q, grad_k, grad_v;
  View3 lse;
  explicit Shard(std::int64_t tokens) : lse(Kokkos::view_alloc(Kokkos::WithoutInitializing, "lse"), 1, 1, tokens) {
    for (View4* view : {&q, &k, &v, &grad, &out, &grad_q, &grad_k, &grad_v}) {
      *view = View4(Kokkos::view_alloc(Kokkos::WithoutInitializing, "shard"), 1, tokens, 1, dim);
    }
  }
};

std::filesystem::path saved_forward(const Options& options, int rank) {
  return options.checkpoint.string() + "." + std::to_string(rank);
}

std::string identity(const Options& options) {
  return rondo::detail::message("documents ", options.tokens, " ", options.ranks, " ", options.chunk, "\n");
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
  const uneven sharding{options.tokens};
  const rondo::ShardTable table(sharding, options.ranks);

  // Documents to look at: those on both sides of every border of shards, the first, the last, and some between.
  std::set<std::int64_t> checked{0, static_cast<std::int64_t>(offsets.size()) - 2};
  std::int64_t most_ranks_spanned = 1;
  const auto document_of = [&](std::int64_t token) {
    return std::upper_bound(offsets.begin(), offsets.end(), token) - offsets.begin() - 1;
  };
  for (int rank = 1; rank < options.ranks; ++rank) {
    const std::int64_t cut = uneven::cut(options.tokens, rank, options.ranks);
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
      for (const rondo::Run& run : table.runs(rank)) spanned += run.first < end && run.last() >= begin ? 1 : 0;
    }
    most_ranks_spanned = std::max(most_ranks_spanned, spanned);
  }

  const std::int64_t steps = table.most_pieces(options.chunk) * options.ranks;
  Progress progress("documents", 2 * steps + 1);
  std::array<double, 2> seconds{};
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
    const rondo::Problem problem{documents.mask() & rondo::causal{}};
    comm.barrier();
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
    begin = now();
    attention.backward(mine.q, mine.k, mine.v, mine.out, mine.lse, mine.grad, mine.grad_q, mine.grad_k, mine.grad_v,
                       problem);
    comm.barrier();
    if (comm.rank() == 0) seconds[1] = now() - begin;

    for (int turn = 0; turn < comm.size(); ++turn) {
      if (turn == comm.rank()) {
        bytes_sent += attention.statistics().bytes_sent;
        std::int64_t row = 0;
        for (const rondo::Run& run : attention.shards().runs(comm.rank())) {
          for (const Exact& document : exact) {
            const std::int64_t from = std::max(run.first, document.first);
            const std::int64_t to = std::min(run.last() + 1, document.first + document.length);
            const auto compare = [&](const View4& found, const std::vector<double>& right) {
              const double size = root_mean_square(right);
              for (std::int64_t token = from; token < to; ++token) {
                for (int d = 0; d < dim; ++d) {
                  const double difference = static_cast<double>(found(0, row + token - run.first, 0, d)) -
                                            right[static_cast<std::size_t>((token - document.first) * dim + d)];
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
            for (std::int64_t token = from; token < to; ++token) {
              const double error = std::abs(static_cast<double>(mine.lse(0, 0, row + token - run.first)) -
                                            document.lse[static_cast<std::size_t>(token - document.first)]);
              farthest = error <= farthest ? farthest : error;
            }
          }
          row += run.count;
        }
      }
      comm.barrier();
    }
  });
  if (!options.checkpoint.empty()) {
    for (int rank = 0; rank < options.ranks; ++rank) std::filesystem::remove(saved_forward(options, rank));
  }
  return {{"part", "documents"},
          {"finished", true},
          {"tokens", options.tokens},
          {"ranks", options.ranks},
          {"head_dim", dim},
          {"documents", offsets.size() - 1},
          {"documents_checked", exact.size()},
          {"numbers_checked", numbers_checked},
          {"most_ranks_spanned", most_ranks_spanned},
          {"seconds", seconds[0] + seconds[1]},
          {"forward_seconds", seconds[0]},
          {"backward_seconds", seconds[1]},
          {"bytes_sent", bytes_sent},
          {"max_error", farthest},
          {"right", farthest < tolerance && numbers_checked > 0}};
}

}  // namespace hundred_million
