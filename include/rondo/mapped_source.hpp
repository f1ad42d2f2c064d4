/// \file
/// Keys and values that lie in a file: mapped into memory, read as the ring asks for them. Needs POSIX.
#pragma once

#include <rondo/error.hpp>
#include <rondo/problem.hpp>
#include <rondo/source.hpp>
#include <rondo/tensor.hpp>

#include <Kokkos_Core.hpp>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <system_error>

namespace rondo {
namespace detail {

/// A whole file in memory, to read.
class MappedFile {
 public:
  /// \throws argument_error naming the file and what is wrong with it
  explicit MappedFile(const std::filesystem::path& path) {
    const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    struct stat state {};
    const bool known = file >= 0 && fstat(file, &state) == 0;
    if (known) size_ = static_cast<std::uint64_t>(state.st_size);
    if (size_ > 0) bytes_ = mmap(nullptr, size_, PROT_READ, MAP_SHARED, file, 0);
    const int failure = errno;
    if (file >= 0) close(file);
    if (known && bytes_ != MAP_FAILED) return;
    throw argument_error(
        message("the file ", path.string(), " cannot be read: ", std::generic_category().message(failure)));
  }
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile() {
    if (size_ > 0) munmap(bytes_, size_);
  }

  std::uint64_t size() const { return size_; }
  const std::byte* at(std::uint64_t offset) const { return static_cast<const std::byte*>(bytes_) + offset; }

  /// Tells the system of bytes that are wanted soon (MADV_WILLNEED) or no longer (MADV_DONTNEED).
  void advise(std::uint64_t begin, std::uint64_t end, int advice) const {
    const auto page = static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
    begin = begin / page * page;
    if (begin < end) static_cast<void>(madvise(static_cast<std::byte*>(bytes_) + begin, end - begin, advice));
  }

 private:
  std::uint64_t size_ = 0;
  void* bytes_ = nullptr;
};

}  // namespace detail

/// The keys and values of a whole sequence in a file, each [batch, sequence, kv_heads, head_dim] in row-major order. A rank
/// reads its own tokens where they lie, whatever the sharding; pages of parts that are done with are given back, so
/// that the memory in use does not grow with the file.
template <class T>
class mapped_source {
 public:
  using MemorySpace = Kokkos::HostSpace;

  /// \param total_tokens       of the whole sequence
  /// \param keys_at, values_at where they begin in the file, in bytes: multiples of the size of an element
  /// \param first              the place in the file's sequence of the ring's token 0
  /// \throws argument_error when the file cannot be read or is too short
  mapped_source(const std::filesystem::path& path, const Shape& shape, std::int64_t total_tokens, std::uint64_t keys_at,
                std::uint64_t values_at, std::int64_t first = 0)
      : file_(path), shape_(shape.checked()), total_tokens_(total_tokens), at_{keys_at, values_at}, first_(first) {
    for (const std::uint64_t at : at_) {
      const std::uint64_t end = at + static_cast<std::uint64_t>(shape_.batch * total_tokens) * token_bytes();
      if (at % sizeof(T) == 0 && total_tokens >= 0 && end <= file_.size()) continue;
      throw argument_error(detail::message("the file ", path.string(), " has ", file_.size(),
                                           " bytes, a tensor from byte ", at, " of ", total_tokens, " tokens needs ",
                                           end, " and a beginning that is a multiple of ", sizeof(T)));
    }
  }

  /// \throws argument_error for a part beyond the end
  template <class Exec>
  KeyValues<T, MemorySpace> part(const Exec& exec, const Part& part) {
    if (part.tokens.count > 0 && first_ + part.tokens.last() >= total_tokens_) {
      throw argument_error(
          detail::message("token ", first_ + part.tokens.last(), " is asked of a file of ", total_tokens_, " tokens"));
    }
    exec.fence("rondo::source");  // the part before is packed
    advise(held_, MADV_DONTNEED);
    held_ = part.tokens;
    return {tensor_of(at_[0], part.tokens), tensor_of(at_[1], part.tokens)};
  }
  void expect(const Part& part) const {
    if (part.tokens.count > 0 && first_ + part.tokens.last() < total_tokens_) advise(part.tokens, MADV_WILLNEED);
  }

 private:
  std::uint64_t token_bytes() const {
    return static_cast<std::uint64_t>(shape_.kv_heads) * static_cast<std::uint64_t>(shape_.head_dim) * sizeof(T);
  }
  /// Where a token's row of a tensor lies.
  std::uint64_t place(std::uint64_t at, std::int64_t batch, std::int64_t token) const {
    return at + static_cast<std::uint64_t>(batch * total_tokens_ + first_ + token) * token_bytes();
  }

  Tensor<const T, 4, MemorySpace> tensor_of(std::uint64_t at, const Run& tokens) const {
    const std::int64_t row = std::int64_t{shape_.kv_heads} * shape_.head_dim;
    const std::int64_t extents[] = {shape_.batch, tokens.count, shape_.kv_heads, shape_.head_dim};
    const std::int64_t strides[] = {total_tokens_ * row, tokens.stride * row, shape_.head_dim, 1};
    return tensor<MemorySpace>(reinterpret_cast<const T*>(file_.at(place(at, 0, tokens.first))), extents, strides);
  }

  void advise(const Run& tokens, int advice) const {
    if (tokens.count == 0) return;
    for (const std::uint64_t at : at_) {
      for (std::int64_t batch = 0; batch < shape_.batch; ++batch) {
        file_.advise(place(at, batch, tokens.first), place(at, batch, tokens.last() + 1), advice);
      }
    }
  }

  detail::MappedFile file_;
  Shape shape_;
  std::int64_t total_tokens_;
  std::array<std::uint64_t, 2> at_;
  std::int64_t first_;
  Run held_{};
};

static_assert(KeyValueSource<mapped_source<float>, float, Kokkos::DefaultHostExecutionSpace>);

}  // namespace rondo
