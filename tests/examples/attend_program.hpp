/// \file
/// The program attend as a user runs it, on small tensors, and its results.
#pragma once

#include "../../examples/attend/mapped_file.hpp"

#include <support/generators.hpp>
#include <support/process.hpp>
#include <support/temporary_directory.hpp>
#include <support/whole.hpp>

#include <rondo/precision.hpp>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>
#include <type_traits>
#include <vector>

namespace rondo::test {

/// A tensor for a file.
struct FileTensor {
  std::string name;
  safetensors::Dtype dtype;
  std::vector<std::int64_t> shape;
  std::vector<std::byte> bytes;
};

template <class T>
FileTensor file_tensor(const std::string& name, const safetensors::Dtype& dtype, const std::vector<std::int64_t>& shape,
                       const std::vector<T>& values) {
  const auto bytes = std::as_bytes(std::span(values));
  return {name, dtype, shape, {bytes.begin(), bytes.end()}};
}

inline void write_tensors(const std::string& path, const std::vector<FileTensor>& tensors) {
  std::vector<safetensors::Entry> entries;
  for (const FileTensor& tensor : tensors) entries.push_back({tensor.name, tensor.dtype, tensor.shape});
  safetensors::Output out(path, entries);
  for (const FileTensor& tensor : tensors) std::ranges::copy(tensor.bytes, out.bytes(tensor.name).begin());
  out.finish();
}

/// Any of the four types, as double.
inline std::vector<double> read_numbers(const safetensors::Input& in, const std::string& name) {
  const safetensors::Entry* const tensor = in.header().find(name);
  if (tensor == nullptr) throw std::runtime_error("the output has no tensor " + name);
  const std::byte* at = in.bytes(*tensor).data();
  std::vector<double> numbers(in.bytes(*tensor).size() / tensor->dtype.bytes);
  const auto next = [&]<class T>(T x) {
    std::memcpy(&x, at, sizeof x);
    at += sizeof x;
    if constexpr (std::is_floating_point_v<T>) {
      return static_cast<double>(x);
    } else {
      return static_cast<double>(static_cast<float>(x));
    }
  };
  for (double& number : numbers) {
    number = tensor->dtype == safetensors::F64   ? next(double{})
             : tensor->dtype == safetensors::F32 ? next(float{})
             : tensor->dtype == safetensors::F16 ? next(float16{})
                                                 : next(bfloat16{});
  }
  return numbers;
}

/// A folder with tensors in the file in.safetensors, in which the program runs.
class AttendWorkplace {
 public:
  explicit AttendWorkplace(const std::vector<FileTensor>& tensors) { write_tensors(file("in.safetensors"), tensors); }

  ProcessResult run(const std::vector<std::string>& options) const {
    std::vector<std::string> words{ATTEND_PROGRAM, "in.safetensors", "out.safetensors"};
    words.insert(words.end(), options.begin(), options.end());
    return run_process(words, files.path());
  }
  std::string file(const std::string& name) const { return files / name; }

  TemporaryDirectory files;
};

/// Small random tensors as the file has them, of one type.
template <class T>
std::vector<FileTensor> file_tensors(const Inputs<T>& in, const safetensors::Dtype& dtype) {
  const Extents& e = in.extents;
  const std::vector<std::int64_t> queries{e.batch, e.tokens, e.heads, e.head_dim};
  const std::vector<std::int64_t> keys{e.batch, e.tokens, e.kv_heads, e.head_dim};
  const std::vector<std::int64_t> values{e.batch, e.tokens, e.kv_heads, e.value_width()};
  const std::vector<std::int64_t> outputs{e.batch, e.tokens, e.heads, e.value_width()};
  return {file_tensor("q", dtype, queries, in.q.values()), file_tensor("k", dtype, keys, in.k.values()),
          file_tensor("v", dtype, values, in.v.values()),
          file_tensor("grad_out", dtype, outputs, in.grad_out.values())};
}

}  // namespace rondo::test
