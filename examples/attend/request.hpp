/// \file
/// What is to be computed: the options and the tensors of the file, checked against each other.
#pragma once

#include "granules.hpp"
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
using Lengths = rondo::Lengths<Kokkos::HostSpace>;

/// The same on every rank.
struct Request {
  rondo::Shape shape;
  rondo::cross<rondo::any_sharding, rondo::any_sharding> sharding;
  rondo::intervals mask;
  std::shared_ptr<const Documents> documents;  ///< what the mask looks into
  std::shared_ptr<const Lengths> lengths;
  rondo::softcap_alibi score;
  rondo::dropout dropout;
  double scale = 0;
  bool sinks = false;
  bool backward = false;
  bool reproducible = false;
  safetensors::Dtype dtype;
  std::int64_t chunk = 4096;
};

namespace detail {

using safetensors::Entry;
using safetensors::refuse;
using safetensors::shape_text;

inline void check_type(const Entry& tensor) {
  const auto& known = {safetensors::F64, safetensors::F32, safetensors::BF16, safetensors::F16};
  if (std::find(known.begin(), known.end(), tensor.dtype) == known.end()) {
    refuse(tensor.name, " is ", tensor.dtype.name, ", needed is F64, F32, BF16 or F16");
  }
}

/// A tensor of numbers with four axes. \throws safetensors::refusal
inline const Entry& numbers(const safetensors::Header& header, std::string_view name) {
  const Entry* const tensor = header.find(name);
  if (tensor == nullptr) refuse("the file has no tensor ", name, ": q, k and v are needed");
  if (tensor->shape.size() != 4) {
    refuse(name, " has shape ", shape_text(tensor->shape), ", needed is [batch, sequence, heads, head_dim]");
  }
  check_type(*tensor);
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
  const char* const axes[] = {"batch", "sequence", "heads", "head_dim"};
  const auto check_equal = [&](const char* a, const auto& of_a, const char* b, const auto& of_b,
                               std::initializer_list<std::size_t> some_axes) {
    for (const std::size_t axis : some_axes) {
      if (of_a[axis] == of_b[axis]) continue;
      refuse(a, " has shape ", shape_text(of_a), ", ", b, " has ", shape_text(of_b), ": ", axes[axis],
             " must be equal");
    }
  };
  check_equal("q", q, "k", k, {0, 3});
  check_equal("k", k, "v", v, {0, 1, 2});
  if (k[2] == 0) refuse("k has shape ", shape_text(k), ": it must have at least 1 head");
  if (v[3] == 0) refuse("v has shape ", shape_text(v), ": its head_dim must be at least 1");
  if (header.find("grad_out") != nullptr) {
    const auto& grad_out = numbers(header, "grad_out").shape;
    check_equal("grad_out", grad_out, "q", q, {0, 1, 2});
    check_equal("grad_out", grad_out, "v", v, {3});
  }
  if (const Entry* const sinks = header.find("sinks")) {
    check_type(*sinks);
    if (sinks->shape != std::vector{q[2]}) {
      refuse("sinks has shape ", shape_text(sinks->shape), ", needed is [heads] = ", shape_text({q[2]}));
    }
  }
}

/// A length for each batch entry. \throws safetensors::refusal
inline std::shared_ptr<const Lengths> read_lengths(const safetensors::Input& in) {
  const Entry* const tensor = in.header().find("lengths");
  if (tensor == nullptr) return nullptr;
  const auto& k = numbers(in.header(), "k").shape;
  if (tensor->dtype != safetensors::I32) refuse("lengths is ", tensor->dtype.name, ", needed is I32");
  if (tensor->shape != std::vector{k[0]}) {
    refuse("lengths has shape ", shape_text(tensor->shape), ", needed is [batch] = ", shape_text({k[0]}));
  }
  std::vector<std::int32_t> numbers_read(static_cast<std::size_t>(k[0]));
  if (k[0] > 0) std::memcpy(numbers_read.data(), in.bytes(*tensor).data(), in.bytes(*tensor).size());
  for (std::size_t b = 0; b < numbers_read.size(); ++b) {
    if (numbers_read[b] < 0 || numbers_read[b] > k[1]) {
      refuse("lengths, batch entry ", b, ": ", numbers_read[b], ", it must be from 0 to the ", k[1], " keys there are");
    }
  }
  return std::make_shared<const Lengths>(std::vector<std::int64_t>(numbers_read.begin(), numbers_read.end()));
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

inline void join(Request& request, const safetensors::Header& header, const std::string& mask) {
  const std::string kind = mask.substr(0, mask.find(':'));
  if (mask == "full") {
    request.mask &= rondo::full{};
  } else if (mask == "causal") {
    request.mask &= rondo::causal{};
  } else if (mask == "document") {
    if (!request.documents) refuse("--mask document needs the tensor segment_ids in the file");
    const auto& q = numbers(header, "q").shape;
    const auto& k = numbers(header, "k").shape;
    if (q[1] != k[1]) {
      refuse("--mask document needs as many keys as queries: q has shape ", shape_text(q), ", k has ", shape_text(k));
    }
    request.mask &= request.documents->mask();
  } else if (mask == "padding") {
    if (!request.lengths) refuse("--mask padding needs the tensor lengths in the file");
    request.mask &= request.lengths->mask();
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
    refuse("--mask ", mask, " is not known: full, causal, window:L,R, prefix:P, chunked:C, document and padding are");
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
                               .head_dim = small("head_dim", q[3]),
                               .value_dim = small("head_dim of v", numbers(in.header(), "v").shape[3])};
  request.shape = request.shape.checked();
  request.reproducible = options.reproducible;
  request.chunk = options.chunk.value_or(options.reproducible ? 512 : 4096);
  const auto sharding = [&](std::int64_t tokens) -> rondo::any_sharding {
    if (!options.reproducible) return rondo::any_sharding::named(options.sharding, tokens);
    const std::int64_t granule = request.chunk;
    return in_granules{rondo::any_sharding::named(options.sharding, (tokens + granule - 1) / granule), tokens, granule};
  };
  request.sharding = {sharding(q[1]), sharding(k[1])};
  request.dtype = compute_type(options, in.header());
  request.documents = read_documents(in);
  request.lengths = read_lengths(in);
  for (const std::string& mask : options.masks) join(request, in.header(), mask);
  request.score = {.cap = options.softcap.value_or(0), .heads = options.alibi ? request.shape.heads : 0};
  request.dropout = {.probability = options.dropout.value_or(0),
                     .seed = static_cast<std::uint64_t>(options.seed.value_or(0))};
  request.scale = options.scale.value_or(1 / std::sqrt(static_cast<double>(q[3])));
  request.backward = in.header().find("grad_out") != nullptr;
  request.sinks = in.header().find("sinks") != nullptr;
  if (request.sinks && request.backward && request.reproducible) {
    refuse(
        "--reproducible: the gradient of sinks is a sum over ranks, whose bits depend on their number; the file must "
        "not have both sinks and grad_out");
  }
  return request;
}

}  // namespace attend
