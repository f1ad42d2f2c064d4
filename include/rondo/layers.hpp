/// \file
/// The layers of a transformer beside its attention, forward and backward (component Rondo::layers, which needs Eigen).
///
/// They work on a rank's own tokens, on the host: [tokens, dim] tensors of float or double. Every layer is an object
/// that allocates its workspace when it is made and is used by one thread; ranks are threads, so each makes its own.
/// Matrix products run on the calling thread (Rondo::layers defines EIGEN_DONT_PARALLELIZE). Gradients of weights are
/// added to what is there, gradients of inputs overwrite it; zero tokens are legal and change no gradient.
///
/// The same input gives the same bits, provided it lies at the same alignment and strides in memory: Eigen's loops over
/// tiny matrices begin at an aligned element.
///
/// In steady state the layers allocate nothing themselves. Eigen's matrix product packs its operands into panels of a
/// size that the processor's caches set: on the stack up to EIGEN_STACK_ALLOCATION_LIMIT (128 KiB), from malloc and
/// given back within the product beyond that.
#pragma once

#include <rondo/layer/activation.hpp>
#include <rondo/layer/cross_entropy.hpp>
#include <rondo/layer/feed_forward.hpp>
#include <rondo/layer/rms_norm.hpp>
#include <rondo/layer/rope.hpp>
