/// \file
/// A ring of devices over NCCL or RCCL: the component Rondo::nccl.
#pragma once

#include <rondo/comm/nccl/communicator.hpp>
