/// \file
/// Calls of ring attention whose results are known in advance, over ranks that may fail.
#pragma once

#include <rondo/rondo.hpp>

#include <Kokkos_Core.hpp>

#include <cmath>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>

namespace rondo::test {

/// A result that is wrong. Never the consequence of a failure: those are Rondo's exceptions.
class wrong_result : public std::logic_error {
 public:
  using std::logic_error::logic_error;
};

/// With q = 0 every key weighs the same: out is the mean of v, and with grad_out = 1 grad_v is the number of queries'
/// heads that share a key divided by the number of tokens, times that number: heads / kv_heads. v is another one in
/// every round, so that no block of an earlier round can pass for one of this.
template <Communicator Comm>
class KnownWork {
 public:
  KnownWork(Comm& comm, std::int64_t tokens)
      : comm_(comm),
        attention_(comm, Shape{.heads = heads, .kv_heads = kv_heads, .head_dim = dim}, striped{tokens}, {},
                   {.chunk = 16}),
        q_("q", 1, attention_.tokens(), heads, dim),
        k_("k", 1, attention_.tokens(), kv_heads, dim),
        v_("v", 1, attention_.tokens(), kv_heads, dim),
        out_("out", 1, attention_.tokens(), heads, dim),
        grad_out_("grad_out", 1, attention_.tokens(), heads, dim),
        grad_q_("grad_q", 1, attention_.tokens(), heads, dim),
        grad_k_("grad_k", 1, attention_.tokens(), kv_heads, dim),
        grad_v_("grad_v", 1, attention_.tokens(), kv_heads, dim),
        lse_("lse", 1, heads, attention_.tokens()) {
    Kokkos::deep_copy(grad_out_, 1.0f);
  }

  void forward(std::int64_t round) {
    attention_.shards().for_each_token(comm_.rank(), [&](std::int64_t position, std::int64_t row) {
      for (int h = 0; h < kv_heads; ++h) {
        for (int d = 0; d < dim; ++d) v_(0, row, h, d) = static_cast<float>(position + 100 * (round % 50));
      }
    });
    attention_.forward(q_, k_, v_, out_, lse_);
    const double total = static_cast<double>(attention_.shards().total_tokens());
    check("out", out_, (total - 1) / 2 + 100 * static_cast<double>(round % 50));
  }

  void backward() {
    attention_.backward(q_, k_, v_, out_, lse_, grad_out_, grad_q_, grad_k_, grad_v_);
    check("grad_v", grad_v_, static_cast<double>(heads) / kv_heads);
  }

  void all_reduce(std::int64_t round) {
    double sums[] = {1, static_cast<double>(comm_.rank() + round)};
    comm_.all_reduce(std::span<double>(sums), Reduction::sum);
    const double size = comm_.size();
    if (sums[0] != size || sums[1] != size * (size - 1) / 2 + size * static_cast<double>(round)) {
      throw wrong_result("all_reduce gave " + std::to_string(sums[0]) + " and " + std::to_string(sums[1]) + " for " +
                         std::to_string(comm_.size()) + " ranks in round " + std::to_string(round));
    }
  }

  void round(std::int64_t round) {
    forward(round);
    backward();
    all_reduce(round);
  }

 private:
  static constexpr int heads = 2, kv_heads = 1, dim = 16;
  using View4 = Kokkos::View<float****, Kokkos::LayoutRight>;

  void check(const char* name, const View4& x, double needed) const {
    for (std::size_t i = 0; i < x.size(); ++i) {
      if (!(std::abs(x.data()[i] - needed) <= 1e-3 * std::abs(needed))) {
        throw wrong_result(std::string(name) + " is " + std::to_string(x.data()[i]) + ", needed is " +
                           std::to_string(needed));
      }
    }
  }

  Comm& comm_;
  RingAttention<Comm, striped> attention_;
  View4 q_, k_, v_, out_, grad_out_, grad_q_, grad_k_, grad_v_;
  Kokkos::View<float***, Kokkos::LayoutRight> lse_;
};

}  // namespace rondo::test
