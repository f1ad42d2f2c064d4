/// \file
/// Ranks in two dimensions: a context is spread over a ring, and rings stand side by side, each with windows of its own.
///
///   rank = replica · ranks of a ring + place in the ring
#pragma once

#include "data.hpp"

#include <rondo/rondo.hpp>

#include <string>

namespace train {

/// One rank's view of the mesh. Attention runs over the ring alone; gradients are summed over the whole, which is both
/// the parts of a context and the windows.
template <rondo::Communicator Comm>
struct Mesh {
  Comm& whole;
  Comm ring;     ///< the ranks that share this one's windows
  int replicas;  ///< rings side by side
  int replica;   ///< this rank's ring
};

/// \throws refusal  when so many ranks cannot be divided into so many rings
inline void check_mesh(int ranks, int replicas) {
  if (replicas >= 1 && ranks % replicas == 0) return;
  throw refusal("--data-parallel is " + std::to_string(replicas) + ", and there are " + std::to_string(ranks) +
                " ranks: they must be a multiple of it");
}

/// Every rank of `whole`, which has to outlive the mesh, calls it with the same number.
template <rondo::Communicator Comm>
Mesh<Comm> make_mesh(Comm& whole, int replicas) {
  check_mesh(whole.size(), replicas);
  const int replica = whole.rank() / (whole.size() / replicas);
  return {whole, whole.split(replica, whole.rank()), replicas, replica};
}

}  // namespace train
