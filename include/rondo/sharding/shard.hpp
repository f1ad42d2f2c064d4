/// \file
/// Cutting a whole sequence into a rank's shard, and putting the shards together again.
#pragma once

#include <rondo/comm/concept.hpp>
#include <rondo/error.hpp>
#include <rondo/sharding/shard_table.hpp>
#include <rondo/tensor.hpp>

#include <Kokkos_Core.hpp>

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>
#include <tuple>
#include <type_traits>
#include <utility>

namespace rondo {
namespace detail {

/// Calls copy(position, row, count) for every run of a rank, and checks the extents along the sequence axis.
template <class Whole, class Part>
void check_shard(const Whole& whole, const Part& part, const ShardTable& table, int rank, int axis) {
  static_assert(Whole::rank() == Part::rank(), "the whole and its shard must have the same number of axes");
  if (rank < 0 || rank >= table.ranks()) {
    throw argument_error(message("shard: rank ", rank, " does not exist, there are ", table.ranks(), " ranks"));
  }
  auto needed_whole = extents_of(whole);
  auto needed_part = needed_whole;
  needed_whole[static_cast<std::size_t>(axis)] = table.total_tokens();
  needed_part[static_cast<std::size_t>(axis)] = table.tokens(rank);
  if (extents_of(whole) != needed_whole) {
    throw shape_error(message("shard: the whole has ", whole.extent(static_cast<std::size_t>(axis)),
                              " tokens along axis ", axis, ", the sharding ", table.total_tokens()));
  }
  if (extents_of(part) != needed_part) {
    throw shape_error(message("shard: the part of rank ", rank, " has shape ", shape_text(extents_of(part)),
                              ", needed is ", shape_text(needed_part)));
  }
}

/// Index `token` along `axis` of a tensor, all of the other axes.
template <int Axis, class View>
auto token_slice(const View& x, std::int64_t token) {
  const auto pick = [token](auto axis) {
    if constexpr (decltype(axis)::value == Axis) {
      return token;
    } else {
      return Kokkos::ALL;
    }
  };
  return [&]<std::size_t... Axes>(std::index_sequence<Axes...>) {
    return Kokkos::subview(x, pick(std::integral_constant<int, static_cast<int>(Axes)>{})...);
  }(std::make_index_sequence<View::rank()>{});
}

}  // namespace detail

/// Copies the tokens of `rank` out of a whole sequence, in the order of the rank's runs. Host-accessible tensors.
/// \tparam Axis  the sequence axis: 1 for [batch, sequence, heads, head_dim], 2 for lse [batch, heads, sequence]
/// \throws shape_error when extents do not fit the table
template <int Axis = 1, class Whole, class Part>
void shard(const Whole& whole, const Part& part, const ShardTable& table, int rank) {
  detail::check_shard(whole, part, table, rank, Axis);
  table.for_each_token(rank, [&](std::int64_t position, std::int64_t row) {
    Kokkos::deep_copy(detail::token_slice<Axis>(part, row), detail::token_slice<Axis>(whole, position));
  });
}

/// Copies a rank's tokens to their places in a whole sequence: the inverse of shard.
template <int Axis = 1, class Part, class Whole>
void unshard(const Part& part, const Whole& whole, const ShardTable& table, int rank) {
  detail::check_shard(whole, part, table, rank, Axis);
  table.for_each_token(rank, [&](std::int64_t position, std::int64_t row) {
    Kokkos::deep_copy(detail::token_slice<Axis>(whole, position), detail::token_slice<Axis>(part, row));
  });
}

/// Puts the shards of all ranks together, on every rank: N - 1 hops round the ring. Allocates two shards' room, and
/// the whole is as large as the sequence: for tests, checkpoints and results, not for training steps.
/// \param part   this rank's shard; contiguous memory is not needed
/// \param whole  the whole sequence, on every rank
/// \throws shape_error when extents do not fit the table; argument_error when the table is of another number of ranks
template <int Axis = 1, Communicator Comm, class Part, class Whole>
void gather(Comm& comm, const Part& part, const Whole& whole, const ShardTable& table) {
  using T = typename Whole::non_const_value_type;
  using Space = typename Comm::memory_space;
  const int ranks = comm.size();
  if (table.ranks() != ranks) {
    throw argument_error(detail::message("gather: the table is of ", table.ranks(), " ranks, the communicator has ", ranks));
  }
  detail::check_shard(whole, part, table, comm.rank(), Axis);
  auto extents = detail::extents_of(whole);
  std::int64_t most = 0;
  for (int rank = 0; rank < ranks; ++rank) most = std::max(most, table.tokens(rank));
  const auto bytes_of = [&](std::int64_t tokens) {
    std::size_t bytes = sizeof(T) * static_cast<std::size_t>(tokens);
    for (std::size_t axis = 0; axis < extents.size(); ++axis) {
      if (axis != static_cast<std::size_t>(Axis)) bytes *= static_cast<std::size_t>(extents[axis]);
    }
    return bytes;
  };
  using Bytes = typename Segment<Space>::Bytes;
  std::array<Bytes, 2> room{Bytes("rondo::gather", bytes_of(most)), Bytes("rondo::gather", bytes_of(most))};
  const auto part_in = [&](const Bytes& bytes, std::int64_t tokens) {
    auto shape = extents;
    shape[static_cast<std::size_t>(Axis)] = tokens;
    return [&]<std::size_t... Axes>(std::index_sequence<Axes...>) {
      return tensor<Space>(reinterpret_cast<T*>(bytes.data()), {shape[Axes]...});
    }(std::make_index_sequence<std::tuple_size_v<decltype(extents)>>{});
  };

  Kokkos::deep_copy(part_in(room[0], table.tokens(comm.rank())), part);
  for (int hop = 0; hop < ranks; ++hop) {
    const int owner = (comm.rank() + ranks - hop) % ranks;
    const int next_owner = (owner + ranks - 1) % ranks;
    const Bytes& held = room[static_cast<std::size_t>(hop % 2)];
    const Bytes& free = room[static_cast<std::size_t>((hop + 1) % 2)];
    unshard<Axis>(part_in(held, table.tokens(owner)), whole, table, owner);
    if (hop + 1 == ranks) break;
    const Segment<Space> segments[] = {
        {Direction::send, (comm.rank() + 1) % ranks,
         Kokkos::subview(held, std::pair{std::size_t{0}, bytes_of(table.tokens(owner))})},
        {Direction::receive, (comm.rank() + ranks - 1) % ranks,
         Kokkos::subview(free, std::pair{std::size_t{0}, bytes_of(table.tokens(next_owner))})}};
    comm.exchange(comm.execution_instance(), segments, {"gather", hop}).wait();
  }
}

}  // namespace rondo
