/// \file
/// Adds up the parts of a workspace before it exists.
#pragma once

#include <cstddef>

namespace rondo {

/// Each part starts at a multiple of 128 bytes.
class WorkspaceLayout {
 public:
  /// Where what follows so many bytes starts.
  static constexpr std::size_t after(std::size_t bytes) { return (bytes + alignment - 1) / alignment * alignment; }

  /// Reserves `bytes` and returns where they start.
  std::size_t add(std::size_t bytes) {
    const std::size_t offset = bytes_;
    bytes_ += after(bytes);
    return offset;
  }
  std::size_t bytes() const { return bytes_; }

 private:
  static constexpr std::size_t alignment = 128;
  std::size_t bytes_ = 0;
};

}  // namespace rondo
