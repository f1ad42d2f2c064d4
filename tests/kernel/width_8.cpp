/// \file
/// The part of the program that is built for vectors of 8 bytes.
#define RONDO_HOST_VECTOR_BYTES 8
#include <kernel/kernel_case.hpp>
#include <kernel/widths.hpp>

#include <rondo/rondo.hpp>

namespace rondo::test {

Part part_of_8_bytes(const Inputs<float>& in, bool in_ring) {
  using Kernel = host_kernel<float>;
  const Problem problem{causal{}};
  return {host::vector_bytes, Kernel::wire_format,
          in_ring ? ring_attention<Kernel>(in, {.ranks = 3, .chunk = 20}, problem)
                  : kernel_attention<Kernel>(in, {.threads = 2}, problem)};
}

}  // namespace rondo::test
