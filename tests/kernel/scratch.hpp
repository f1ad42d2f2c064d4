/// \file
/// What host_kernel asks of a processor besides arithmetic: memory that fits the second-level cache.
#pragma once

#include <rondo/kernel/host/host.hpp>

#include <catch2/catch_test_macros.hpp>

#include <cstddef>

namespace {

template <class T>
void check_scratch() {
  for (int dims = 0; dims < 2 * 256; ++dims) {
    const int head_dim = dims / 2 + 1, value_dim = dims % 2 == 0 ? head_dim : 257 - head_dim;
    const rondo::Shape shape{.batch = 3, .heads = 16, .kv_heads = 2, .head_dim = head_dim, .value_dim = value_dim};
    for (const rondo::Pass pass : {rondo::Pass::forward, rondo::Pass::backward}) {
      const std::size_t bytes = rondo::host_kernel<T>::scratch_bytes(pass, shape);
      INFO("head_dim " << head_dim << ", of values " << value_dim << ", "
                       << (pass == rondo::Pass::forward ? "forward" : "backward"));
      CHECK(bytes <= std::size_t{RONDO_HOST_CACHE_KIB} << 10);
      CHECK(bytes >= sizeof(T) * static_cast<std::size_t>(head_dim));
    }
  }
}

}  // namespace
