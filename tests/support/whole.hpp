/// \file
/// Whole sequences on the host: what the tests shard, and what they compare.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace rondo::test {

/// The extents of an attention problem over the whole sequence.
struct Extents {
  int batch = 1;
  int heads = 1;
  int kv_heads = 1;
  int head_dim = 1;
  std::int64_t tokens = 0;
  int value_dim = 0;  ///< 0: as head_dim

  int value_width() const { return value_dim == 0 ? head_dim : value_dim; }
};

/// A tensor [batch, sequence, heads, width] in host memory, last axis fastest.
template <class T>
class Whole {
 public:
  using value_type = T;

  Whole() = default;
  Whole(int batch, std::int64_t tokens, int heads, int width)
      : tokens_(tokens),
        heads_(heads),
        width_(width),
        values_(static_cast<std::size_t>(batch * tokens * heads * width)) {}

  T& operator()(std::int64_t b, std::int64_t i, int h, int d) { return values_[index(b, i, h, d)]; }
  const T& operator()(std::int64_t b, std::int64_t i, int h, int d) const { return values_[index(b, i, h, d)]; }
  /// The `width` values of one token and head.
  T* row(std::int64_t b, std::int64_t i, int h) { return values_.data() + index(b, i, h, 0); }
  const T* row(std::int64_t b, std::int64_t i, int h) const { return values_.data() + index(b, i, h, 0); }

  std::vector<T>& values() { return values_; }
  const std::vector<T>& values() const { return values_; }
  std::int64_t tokens() const { return tokens_; }
  int heads() const { return heads_; }
  int width() const { return width_; }

 private:
  std::size_t index(std::int64_t b, std::int64_t i, int h, int d) const {
    return static_cast<std::size_t>(((b * tokens_ + i) * heads_ + h) * width_ + d);
  }

  std::int64_t tokens_ = 0;
  int heads_ = 0;
  int width_ = 0;
  std::vector<T> values_;
};

/// What attention is given.
template <class T>
struct Inputs {
  Extents extents;
  Whole<T> q, k, v, grad_out;
};

/// What attention gives back; lse is [batch, sequence, heads, 1].
template <class T>
struct Results {
  Whole<T> out, lse, grad_q, grad_k, grad_v;
};

template <class R>
Results<R> empty_results(const Extents& e) {
  return {{e.batch, e.tokens, e.heads, e.value_width()},
          {e.batch, e.tokens, e.heads, 1},
          {e.batch, e.tokens, e.heads, e.head_dim},
          {e.batch, e.tokens, e.kv_heads, e.head_dim},
          {e.batch, e.tokens, e.kv_heads, e.value_width()}};
}

/// Calls f(name, tensor of a, tensor of b, ...) for each of the five results.
template <class F, class... R>
void for_each_result(F&& f, R&&... results) {
  f("out", results.out...);
  f("lse", results.lse...);
  f("grad_q", results.grad_q...);
  f("grad_k", results.grad_k...);
  f("grad_v", results.grad_v...);
}

}  // namespace rondo::test
