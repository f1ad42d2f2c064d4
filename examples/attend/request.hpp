/// \file
/// What is to be computed: the options and the tensors of the file, checked against each other.
#pragma once

#include "chosen.hpp"
#include "mapped_file.hpp"
#include "options.hpp"

#include <rondo/rondo.hpp>

#include <climits>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace attend {

using Documents = rondo::Documents<Kokkos::HostSpace>;

/// The same on every rank.
struct Request {
  rondo::Shape shape;
  chosen_sharding sharding;
  rondo::intervals mask;
  std::shared_ptr<const Documents> documents;  ///< what the mask looks into
  rondo::softcap_alibi score;
  rondo::dropout dropout;
  double scale = 0;
  bool backward = false;
  bool reproducible = false;
  safetensors::Dtype dtype;
  std::int64_t chunk = 4096;
};

namespace detail {

using safetensors::Entry;
using safetensors::refuse;
using safetensors::shape_text;

/// A tensor of numbers with four axes. \throws safetensors::refusal
inline const Entry& numbers(const safetensors::Header& header, std::string_view name) {
  const Entry* const tensor = header.find(name);
  if (tensor == nullptr) refuse("the file has no tensor ", name, ": q, k and v are needed");
  if (tensor->shape.size() != 4) {
    refuse(name, " has shape ", shape_text(tensor->shape), ", needed is [batch, sequence, heads, head_dim]");
  }
  const auto& known = {safetensors::F64, safetensors::F32, safetensors::BF16, safetensors::F16};
  if (std::find(known.begin(), known.end(), tensor->dtype) == known.end()) {
    refuse(name, " is ", tensor->dtype.name, ", needed is F64, F32, BF16 or F16");
  }
  return *tensor;
}

inline safetensors::Dtype compute_type(const Options& options, const safetensors::Header& header) {
  if (options.dtype == "f64") return safetensors::F64;
  if (options.dtype == "f32") return safetensors::F32;
  if (options.dtype == "bf16") return safetensors::BF16;
  if (options.dtype == "f16") return safetensors::F16;
  const safetensors::Dtype type = numbers(header, "q").dtype;
  for (const char* name : {"k", "v", "grad_out"}) {
    const Entry* const tensor = header.find(name);
    if (tensor != nullptr && tensor->dtype != type) {
      refuse("q is ", type.name, ", ", name, " is ", tensor->dtype.name, ": say with --dtype what to compute in");
    }
  }
  return type;
}

/// Extents that an int holds.
inline int small(const char* what, std::int64_t extent) {
  if (extent > INT_MAX) refuse(what, " is ", extent, ", at most ", INT_MAX, " can be computed");
  return static_cast<int>(extent);
}

inline void check_shapes(const safetensors::Header& header) {
  const auto& q = numbers(header, "q").shape;
  const auto& k = numbers(header, "k").shape;
  const auto& v = numbers(header, "v").shape;
  if (k != v) refuse("k has shape ", shape_text(k), ", v has ", shape_text(v), ": they must be equal");
  const char* const axes[] = {"batch", "sequence", "heads", "head_dim"};
  for (const std::size_t axis : {0, 1, 3}) {
    if (q[axis] == k[axis]) continue;
    refuse("q has shape ", shape_text(q), ", k has ", shape_text(k), ": ", axes[axis], " must be equal");
  }
  if (header.find("grad_out") != nullptr) {
    const auto& grad_out = numbers(header, "grad_out").shape;
    if (grad_out != q) {
      refuse("grad_out has shape ", shape_text(grad_out), ", q has ", shape_text(q), ": they must be equal");
    }
  }
}

/// The documents of every batch entry, from one id per token. \throws safetensors::refusal  where ids fall
inline std::shared_ptr<const Documents> read_documents(const safetensors::Input& in) {
  const Entry* const tensor = in.header().find("segment_ids");
  if (tensor == nullptr) return nullptr;
  const auto& q = numbers(in.header(), "q").shape;
  if (tensor->dtype != safetensors::I32) refuse("segment_ids is ", tensor->dtype.name, ", needed is I32");
  if (tensor->shape != std::vector{q[0], q[1]}) {
    refuse("segment_ids has shape ", shape_text(tensor->shape),
           ", needed is [batch, sequence] = ", shape_text({q[0], q[1]}));
  }
  std::vector<std::int32_t> ids(static_cast<std::size_t>(q[1]));
  std::vector<std::vector<std::int64_t>> offsets;
  for (std::int64_t b = 0; b < q[0]; ++b) {
    const std::size_t bytes = ids.size() * sizeof(std::int32_t);
    if (bytes > 0) std::memcpy(ids.data(), in.bytes(*tensor).data() + static_cast<std::size_t>(b) * bytes, bytes);
    try {
      offsets.push_back(rondo::document_offsets(std::span<const std::int32_t>(ids)));
    } catch (const rondo::argument_error& error) {
      refuse("segment_ids, batch entry ", b, ": ", error.what());
    }
  }
  return offsets.empty() ? nullptr : std::make_shared<const Documents>(Documents::per_batch(offsets));
}

/// The whole numbers of «window:3,4». \throws safetensors::refusal
inline std::vector<std::int64_t> numbers_of(const std::string& mask, std::size_t count, const char* form) {
  std::vector<std::int64_t> result;
  std::istringstream text(mask.substr(mask.find(':') + 1));
  for (std::string word; std::getline(text, word, ',');) {
    if (word.empty() || word.size() > 18 || word.find_first_not_of("0123456789") != std::string::npos) break;
    result.push_back(std::stoll(word));
  }
  std::string again;
  for (const std::int64_t number : result) again += (again.empty() ? "" : ",") + std::to_string(number);
  const bool whole = result.size() == count && mask.size() >= again.size() && mask.find(':') != std::string::npos &&
                     mask.back() != ',';
  if (!whole) refuse("--mask ", mask, " is not understood: it must be ", form, " with whole numbers from 0");
  return result;
}

inline void join(Request& request, const std::string& mask) {
  const std::string kind = mask.substr(0, mask.find(':'));
  if (mask == "full") {
    request.mask &= rondo::full{};
  } else if (mask == "causal") {
    request.mask &= rondo::causal{};
  } else if (mask == "document") {
    if (!request.documents) refuse("--mask document needs the tensor segment_ids in the file");
    request.mask &= request.documents->mask();
  } else if (kind == "window") {
    const auto sides = numbers_of(mask, 2, "window:L,R");
    request.mask &= rondo::window{.left = sides[0], .right = sides[1]};
  } else if (kind == "prefix") {
    request.mask &= rondo::prefix{numbers_of(mask, 1, "prefix:P")[0]};
  } else if (kind == "chunked") {
    const std::int64_t length = numbers_of(mask, 1, "chunked:C")[0];
    if (length < 1) refuse("--mask ", mask, ": the length is ", length, ", it must be at least 1");
    request.mask &= rondo::chunked{length};
  } else {
    refuse("--mask ", mask, " is not known: full, causal, window:L,R, prefix:P, chunked:C and document are");
  }
}

}  // namespace detail

/// \throws safetensors::refusal, rondo::error  for what cannot be computed, with the numbers that do not fit
inline Request make_request(const Options& options, const safetensors::Input& in) {
  using namespace detail;
  check_shapes(in.header());
  const auto& q = numbers(in.header(), "q").shape;
  const auto& k = numbers(in.header(), "k").shape;
  Request request;
  request.shape = rondo::Shape{.batch = small("batch", q[0]),
                               .heads = small("heads", q[2]),
                               .kv_heads = small("heads of k and v", k[2]),
                               .head_dim = small("head_dim", q[3])};
  if (k[2] == 0) refuse("k has shape ", shape_text(k), ": it must have at least 1 head");
  request.shape = request.shape.checked();
  request.reproducible = options.reproducible;
  request.chunk = options.chunk.value_or(options.reproducible ? 512 : 4096);
  request.sharding = chosen_sharding::named(options.sharding, q[1], options.reproducible ? request.chunk : 1);
  request.dtype = compute_type(options, in.header());
  request.documents = read_documents(in);
  for (const std::string& mask : options.masks) join(request, mask);
  request.score = {.cap = options.softcap.value_or(0), .heads = options.alibi ? request.shape.heads : 0};
  request.dropout = {.probability = options.dropout.value_or(0),
                     .seed = static_cast<std::uint64_t>(options.seed.value_or(0))};
  request.scale = options.scale.value_or(1 / std::sqrt(static_cast<double>(q[3])));
  request.backward = in.header().find("grad_out") != nullptr;
  return request;
}

}  // namespace attend
