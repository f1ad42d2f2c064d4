/// \file
/// Files of tensors in memory: read and written where they lie, so that no rank holds more of them than its own tokens.
#pragma once

#include "safetensors.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace safetensors {
namespace detail {

/// An open file and its bytes in memory.
class Mapping {
 public:
  /// \param size  bytes that a new file gets; 0: an existing one is opened for reading
  explicit Mapping(const std::filesystem::path& path, std::uint64_t size = 0) {
    const bool writes = size > 0;
    file_ = open(path.c_str(), writes ? O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC : O_RDONLY | O_CLOEXEC, 0666);
    struct stat state {};
    if (file_ < 0 || fstat(file_, &state) != 0) fail(path, writes ? "cannot be written" : "cannot be opened", errno);
    if (!S_ISREG(state.st_mode)) fail(path, "is no regular file", 0);
    // Room is taken now: a full disk is an error here, and not a signal in the middle of the writing.
    if (const int failure = writes ? posix_fallocate(file_, 0, static_cast<off_t>(size)) : 0) {
      fail(path, "cannot have " + std::to_string(size) + " bytes", failure);
    }
    size_ = writes ? size : static_cast<std::uint64_t>(state.st_size);
    if (size_ == 0) return;
    void* const bytes = mmap(nullptr, size_, writes ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, file_, 0);
    if (bytes == MAP_FAILED) fail(path, "cannot be mapped into memory", errno);
    bytes_ = static_cast<std::byte*>(bytes);
  }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  ~Mapping() { leave(); }

  std::span<std::byte> bytes() const { return {bytes_, size_}; }

 private:
  [[noreturn]] void fail(const std::filesystem::path& path, const std::string& what, int number) {
    leave();
    refuse("the file ", path.string(), " ", what, number == 0 ? "" : ": " + std::generic_category().message(number));
  }
  void leave() {
    if (bytes_ != nullptr) munmap(bytes_, size_);
    if (file_ >= 0) close(file_);
  }

  int file_ = -1;
  std::byte* bytes_ = nullptr;
  std::uint64_t size_ = 0;
};

}  // namespace detail

/// A file to read tensors from.
class Input {
 public:
  /// \throws refusal  naming the file and what is wrong with it
  explicit Input(const std::filesystem::path& path) : mapping_(path) {
    try {
      header_ = parse_header(mapping_.bytes());
    } catch (const refusal& reason) {
      refuse(path.string(), " is no sound safetensors file: ", reason.what());
    }
  }

  const Header& header() const { return header_; }
  /// Row-major elements. A file may hold them at any address: they are to be copied, not cast.
  std::span<const std::byte> bytes(const Entry& tensor) const {
    return mapping_.bytes().subspan(header_.data + tensor.begin, tensor.end - tensor.begin);
  }

 private:
  detail::Mapping mapping_;
  Header header_;
};

/// A file that tensors are written to. It has its name only when it is whole.
class Output {
 public:
  /// \param tensors  names, types and shapes
  Output(std::filesystem::path path, std::vector<Entry> tensors,
         const std::map<std::string, std::string>& metadata = {})
      : path_(std::move(path)),
        unfinished_(path_.string() + ".unfinished"),
        header_(lay_out(std::move(tensors), metadata, text_)),
        mapping_(unfinished_, header_.data + (header_.tensors.empty() ? 0 : header_.tensors.back().end)) {
    const std::uint64_t length = text_.size();
    std::memcpy(mapping_.bytes().data(), &length, sizeof length);
    std::memcpy(mapping_.bytes().data() + sizeof length, text_.data(), text_.size());
  }
  Output(const Output&) = delete;
  Output& operator=(const Output&) = delete;
  ~Output() {
    if (!finished_) unlink(unfinished_.c_str());
  }

  /// The elements of a tensor of this file, aligned.
  std::span<std::byte> bytes(std::string_view name) const {
    const Entry* const tensor = header_.find(name);
    if (tensor == nullptr) refuse("the output has no tensor ", name);
    return mapping_.bytes().subspan(header_.data + tensor->begin, tensor->end - tensor->begin);
  }

  /// Gives the file its name. \throws refusal
  void finish() {
    if (rename(unfinished_.c_str(), path_.c_str()) != 0) {
      refuse("the file ", path_.string(), " cannot be written: ", std::generic_category().message(errno));
    }
    finished_ = true;
  }

 private:
  std::filesystem::path path_;
  std::filesystem::path unfinished_;
  std::string text_;
  Header header_;
  detail::Mapping mapping_;
  bool finished_ = false;
};

}  // namespace safetensors
