/// \file
/// All of Rondo's core: it needs Kokkos and nothing else. Layers and other communicators have headers of their own.
#pragma once

#include <rondo/attention.hpp>
#include <rondo/build_info.hpp>
#include <rondo/comm/in_process.hpp>
#include <rondo/kernel/default.hpp>
#include <rondo/mask/algebra.hpp>
#include <rondo/mask/causal.hpp>
#include <rondo/mask/chunked.hpp>
#include <rondo/mask/document.hpp>
#include <rondo/mask/full.hpp>
#include <rondo/mask/intervals.hpp>
#include <rondo/mask/padding.hpp>
#include <rondo/mask/pairs.hpp>
#include <rondo/mask/prefix.hpp>
#include <rondo/mask/window.hpp>
#include <rondo/problem.hpp>
#include <rondo/score/softcap.hpp>
#include <rondo/sharding/contiguous.hpp>
#include <rondo/sharding/shard.hpp>
#include <rondo/sharding/striped.hpp>
#include <rondo/sharding/zigzag.hpp>
#include <rondo/tensor.hpp>
#include <rondo/version.hpp>
