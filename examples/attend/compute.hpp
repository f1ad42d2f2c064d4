/// \file
/// One rank's part: its tokens from the file, the ring, and the results to rank 0, which writes them.
#pragma once

#include "elements.hpp"
#include "mapped_file.hpp"
#include "request.hpp"

#include <rondo/reproducible.hpp>
#include <rondo/rondo.hpp>

#include <Kokkos_Core.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>
#include <string>
#include <vector>

namespace attend {

/// A rank's tokens of one tensor, [outer, tokens, inner], last axis fastest.
struct Rows {
  Kokkos::View<std::byte*, Kokkos::HostSpace> bytes;
  std::int64_t outer = 1;
  std::int64_t inner = 1;
  std::size_t size = 1;  ///< bytes of an element
  std::int64_t tokens = 0;

  Rows(std::int64_t outer_extent, std::int64_t tokens_held, std::int64_t inner_extent, std::size_t element)
      : outer(outer_extent), inner(inner_extent), size(element), tokens(tokens_held) {
    bytes = decltype(bytes)(Kokkos::view_alloc(Kokkos::WithoutInitializing, "attend::rows"), total());
  }

  std::size_t total() const { return static_cast<std::size_t>(outer * tokens * inner) * size; }
  std::byte* row(std::int64_t o, std::int64_t token) const {
    return bytes.data() + static_cast<std::size_t>((o * tokens + token) * inner) * size;
  }
  template <class T>
  T* as() const {
    return reinterpret_cast<T*>(bytes.data());
  }
};

/// Calls f(o, position in the sequence, row) for each row that a rank holds.
template <class F>
void for_each_row(const rondo::ShardTable& table, int rank, std::int64_t outer, const F& f) {
  for (std::int64_t o = 0; o < outer; ++o) {
    table.for_each_token(rank, [&](std::int64_t position, std::int64_t row) { f(o, position, row); });
  }
}

/// This rank's tokens of a tensor of the file, as T.
template <class T>
Rows read_rows(const safetensors::Input& in, const char* name, const rondo::ShardTable& table, int rank) {
  const safetensors::Entry& tensor = *in.header().find(name);
  const Rows rows(tensor.shape[0], table.tokens(rank), tensor.shape[2] * tensor.shape[3], sizeof(T));
  const std::byte* const whole = in.bytes(tensor).data();
  const auto width = static_cast<std::size_t>(rows.inner);
  for_each_row(table, rank, rows.outer, [&](std::int64_t o, std::int64_t position, std::int64_t row) {
    const auto at = static_cast<std::size_t>(o * tensor.shape[1] + position) * width * tensor.dtype.bytes;
    convert(tensor.dtype, whole + at, width, reinterpret_cast<T*>(rows.row(o, row)));
  });
  return rows;
}

/// Puts every rank's rows into rank 0's file, one rank after the other: rank 0 holds one other rank's rows at a time.
template <class Comm>
void write_rows(Comm& comm, safetensors::Output* out, const char* name, const Rows& mine,
                const rondo::ShardTable& table) {
  using Segment = rondo::Segment<Kokkos::HostSpace>;
  const auto send_or_receive = [&](rondo::Direction direction, int peer, const Rows& rows) {
    if (rows.total() == 0) return;
    const Segment segment{direction, peer, rows.bytes};
    comm.exchange(comm.execution_instance(), std::span(&segment, 1), {name, peer}).wait();
  };
  if (comm.rank() != 0) return send_or_receive(rondo::Direction::send, 0, mine);
  std::byte* const whole = out->bytes(name).data();
  for (int rank = 0; rank < comm.size(); ++rank) {
    const Rows rows = rank == 0 ? mine : Rows(mine.outer, table.tokens(rank), mine.inner, mine.size);
    if (rank != 0) send_or_receive(rondo::Direction::receive, rank, rows);
    const std::size_t width = static_cast<std::size_t>(rows.inner) * rows.size;
    for_each_row(table, rank, rows.outer, [&](std::int64_t o, std::int64_t position, std::int64_t row) {
      std::memcpy(whole + static_cast<std::size_t>(o * table.total_tokens() + position) * width, rows.row(o, row),
                  width);
    });
  }
}

/// One rank's part of attention in storage type T. Rank 0 is given the file to write to.
template <class T, class Attention, class Problem, class Comm>
void compute_with(Attention& attention, const Problem& problem, Comm& comm, const Request& request,
                  const safetensors::Input& in, safetensors::Output* out) {
  using A = rondo::accumulate_t<T>;
  const rondo::Shape& shape = request.shape;
  const rondo::ShardTable& table = attention.shards();
  const rondo::ShardTable& key_table = attention.key_shards();
  const std::int64_t tokens = attention.tokens();

  const auto tensor = [&](const Rows& rows, int heads) {
    return rondo::tensor<Kokkos::HostSpace>(
        rows.as<T>(), {std::int64_t{shape.batch}, rows.tokens, std::int64_t{heads}, rows.inner / heads});
  };
  const auto queries = [&](const Rows& rows) { return tensor(rows, shape.heads); };
  const auto keys = [&](const Rows& rows) { return tensor(rows, shape.kv_heads); };
  const auto new_rows = [&](int heads, std::int64_t count, int width) {
    return Rows(shape.batch, count, std::int64_t{heads} * width, sizeof(T));
  };

  const Rows q = read_rows<T>(in, "q", table, comm.rank());
  const Rows k = read_rows<T>(in, "k", key_table, comm.rank());
  const Rows v = read_rows<T>(in, "v", key_table, comm.rank());
  const Rows result = new_rows(shape.heads, tokens, shape.value_dim);
  const Rows lse(std::int64_t{shape.batch} * shape.heads, tokens, 1, sizeof(A));
  const auto lse_tensor =
      rondo::tensor<Kokkos::HostSpace>(lse.as<A>(), {std::int64_t{shape.batch}, std::int64_t{shape.heads}, tokens});
  attention.forward(queries(q), keys(k), keys(v), queries(result), lse_tensor, problem);
  write_rows(comm, out, "out", result, table);
  write_rows(comm, out, "lse", lse, table);
  if (!request.backward) return;

  const Rows grad_out = read_rows<T>(in, "grad_out", table, comm.rank());
  const Rows grad_q = new_rows(shape.heads, tokens, shape.head_dim);
  const Rows grad_k = new_rows(shape.kv_heads, attention.key_tokens(), shape.head_dim);
  const Rows grad_v = new_rows(shape.kv_heads, attention.key_tokens(), shape.value_dim);
  attention.backward(queries(q), keys(k), keys(v), queries(result), lse_tensor, queries(grad_out), queries(grad_q),
                     keys(grad_k), keys(grad_v), problem);
  write_rows(comm, out, "grad_q", grad_q, table);
  write_rows(comm, out, "grad_k", grad_k, key_table);
  write_rows(comm, out, "grad_v", grad_v, key_table);
}

/// The same over the ranks of a communicator, as was asked for.
template <class T, class Score, class Sink, class Dropout, class Comm>
void compute(Comm& comm, const Request& request, const safetensors::Input& in, safetensors::Output* out,
             const Score& score, const Sink& sink, const Dropout& dropout) {
  using Kernel = rondo::default_kernel<T, typename Comm::execution_space>;
  const rondo::Problem problem{request.mask, score, request.scale, sink, dropout};
  if (request.reproducible) {
    rondo::ReproducibleAttention attention{comm, request.shape, request.sharding, Kernel{}, request.chunk};
    return compute_with<T>(attention, problem, comm, request, in, out);
  }
  const rondo::Options options{.chunk = request.chunk, .backward = request.backward};
  rondo::RingAttention attention{comm, request.shape, request.sharding, Kernel{}, options};
  compute_with<T>(attention, problem, comm, request, in, out);
}

/// The same with the file's sinks. Without any their logits are -inf, which take no weight.
template <class T, class Comm>
void compute_with_sinks(Comm& comm, const Request& request, const safetensors::Input& in, safetensors::Output* out) {
  using A = rondo::accumulate_t<T>;
  const auto heads = static_cast<std::size_t>(request.shape.heads);
  std::vector<A> logits(heads, -std::numeric_limits<A>::infinity()), gradients(heads);
  if (request.sinks) {
    const safetensors::Entry& tensor = *in.header().find("sinks");
    convert(tensor.dtype, in.bytes(tensor).data(), heads, logits.data());
  }
  const bool wanted = request.sinks && request.backward;
  const rondo::head_sink<A> sink{logits.data(), wanted ? gradients.data() : nullptr};
  compute<T>(comm, request, in, out, request.score, sink, request.dropout);
  if (wanted && out != nullptr) std::memcpy(out->bytes("grad_sinks").data(), gradients.data(), heads * sizeof(A));
}

/// The same with what was asked for. Three kernels for each type: what is not used costs nothing.
template <class T, class Comm>
void compute(Comm& comm, const Request& request, const safetensors::Input& in, safetensors::Output* out) {
  if (request.dropout.probability > 0 || request.sinks) return compute_with_sinks<T>(comm, request, in, out);
  const rondo::no_sink no_sink;
  const rondo::no_dropout none;
  if (request.score.cap > 0 || request.score.heads > 0)
    return compute<T>(comm, request, in, out, request.score, no_sink, none);
  compute<T>(comm, request, in, out, rondo::unmodified{}, no_sink, none);
}

}  // namespace attend
