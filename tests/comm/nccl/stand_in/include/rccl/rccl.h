/* RCCL has NCCL's interface with HIP's streams. */
#pragma once

#include <hip/hip_runtime_api.h>

#define STAND_IN_STREAM hipStream_t
#include "../nccl.h"
