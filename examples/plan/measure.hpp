/// \file
/// What this machine is to a plan.
#pragma once

#include <rondo/plan/machine.hpp>

namespace planner {

/// Fits a rank of one thread by a short benchmark: what its kernel reaches, and messages between two ranks.
rondo::plan::Machine measure_machine();

}  // namespace planner
