// Compiles where RONDO_HOST_ARCH has reached the flags of what links Rondo::rondo.
#include <rondo/kernel/host/vec.hpp>

static_assert(rondo::host::vector_bytes == VECTOR_BYTES);
