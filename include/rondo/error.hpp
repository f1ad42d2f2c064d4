/// \file
/// The exceptions Rondo throws, one type per thing a caller can do about it.
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>

namespace rondo {

/// Base of every exception thrown by Rondo.
class error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// An argument that is wrong on its own: a negative length, an unknown rank, a scale that is not finite.
class argument_error : public error {
 public:
  using error::error;
};

/// A tensor whose extents do not fit the operation or each other. Thrown before anything is sent.
class shape_error : public argument_error {
 public:
  using argument_error::argument_error;
};

/// Ranks called the same operation with arguments that must be equal and are not. Every rank throws it.
class agreement_error : public error {
 public:
  using error::error;
};

/// Another rank failed or left, so this operation cannot finish. Carries that rank and what it said.
class peer_failed : public error {
 public:
  peer_failed(int rank, const std::string& what) : error(what), rank_(rank) {}
  /// The rank that failed, numbered in the communicator that the throwing call used.
  int rank() const noexcept { return rank_; }

 private:
  int rank_;
};

/// A peer did not answer within the communicator's deadline.
class timeout_error : public error {
 public:
  timeout_error(int peer, const std::string& what) : error(what), peer_(peer) {}
  /// The rank waited for, or -1 when it is unknown (a reduction, say).
  int peer() const noexcept { return peer_; }

 private:
  int peer_;
};

namespace detail {

/// Joins values into one message: `message("q has head_dim ", 64)`.
template <class... Parts>
std::string message(const Parts&... parts) {
  std::ostringstream stream;
  (stream << ... << parts);
  return stream.str();
}

}  // namespace detail
}  // namespace rondo
