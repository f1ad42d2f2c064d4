/// \file
/// Planning: memory, overlap, largest context and speed of a ring, from closed formulas. Needs neither Kokkos nor a machine.
#pragma once

#include <rondo/plan/forecast.hpp>
#include <rondo/plan/hop.hpp>
#include <rondo/plan/machine.hpp>
#include <rondo/plan/memory.hpp>
#include <rondo/plan/model.hpp>
#include <rondo/plan/published.hpp>
