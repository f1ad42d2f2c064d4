/// \file
/// Two parts of one program, built for vectors of different widths: each is a translation unit of its own.
#pragma once

#include <support/whole.hpp>

namespace rondo::test {

struct Part {
  int vector_bytes;
  unsigned wire_format;
  Results<double> results;
};

/// Causal attention by the part's own host_kernel, directly and through a ring of three ranks.
Part part_of_8_bytes(const Inputs<float>& in, bool in_ring);
Part part_of_32_bytes(const Inputs<float>& in, bool in_ring);

}  // namespace rondo::test
