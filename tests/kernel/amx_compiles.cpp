/// \file
/// Compiled for a processor with AMX and not run: the kernel's products are its instructions.
#include <rondo/kernel/host/host.hpp>

static_assert(RONDO_HOST_AMX == 1);

namespace rondo::host {

void products(Sums<float, 2>& sums, const bfloat16* a, const bfloat16* b, std::int64_t depth) {
  const TileUnit<bfloat16> unit;
  multiply(sums, a, depth, 1, b, panel<float>, depth);
}

}  // namespace rondo::host
