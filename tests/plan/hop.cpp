#include <rondo/plan.hpp>

#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace rondo::test {
namespace {

using Catch::Approx;
using plan::Sight;

const plan::Attention plain{.heads = 32, .kv_heads = 32, .head_dim = 128, .type = plan::precision("bfloat16")};

/// The smallest c for which a step takes at least as long as its message, counted product by product.
std::int64_t counted_block(const plan::Attention& a, bool backward, double flops, const plan::Link& link, double share,
                           std::int64_t chunk) {
  for (std::int64_t c = 1;; ++c) {
    const auto piece = static_cast<double>(chunk == 0 ? c : std::min(c, chunk));
    const double width = static_cast<double>(a.batch * a.head_dim);
    double operations = 0;
    for (int product = 0; product < (backward ? 5 : 2); ++product) {
      operations += 2 * share * static_cast<double>(c) * piece * a.heads * width;
    }
    double bytes = 2 * piece * a.kv_heads * width * a.type.bytes;
    if (backward) bytes += 2 * piece * a.kv_heads * width * a.type.sum_bytes;
    if (operations / flops >= link.latency + bytes / link.bytes_per_second) return c;
  }
}

TEST_CASE("the smallest block is the first at which computing takes as long as the message") {
  for (const bool backward : {false, true}) {
    for (const double share : {1.0, 0.5, 0.125}) {
      for (const int kv_heads : {32, 8, 1}) {
        for (const double latency : {0.0, 1e-5}) {
          for (const std::int64_t chunk : {0, 256}) {
            plan::Attention attention = plain;
            attention.kv_heads = kv_heads;
            const plan::Link link{25e9, latency};
            const double block =
                plan::smallest_block(attention, backward, 50e12, link, share, static_cast<double>(chunk));
            INFO("backward " << backward << ", share " << share << ", kv heads " << kv_heads << ", latency " << latency
                             << ", chunk " << chunk << ": " << block);
            const auto counted = static_cast<double>(counted_block(attention, backward, 50e12, link, share, chunk));
            CHECK(std::abs(std::ceil(block) - counted) <= 1);
          }
        }
      }
    }
  }
}

TEST_CASE("F/B in the papers' case, twice that for a balanced causal mask, less by the query heads per kv head") {
  const double F = 312e12, B = 12.5e9;
  CHECK(plan::smallest_block(plain, false, F, {B, 0}, 1) == Approx(F / B));
  CHECK(plan::smallest_block(plain, false, F, {B, 0}, 0.5) == Approx(2 * F / B));
  plan::Attention grouped = plain;
  grouped.kv_heads = 4;
  CHECK(plan::smallest_block(grouped, false, F, {B, 0}, 1) == Approx(F / B / 8));
  // Backward, 12 bytes an element travel instead of 4, behind 5 products instead of 2; 14 bytes with keys in two forms.
  CHECK(plan::smallest_block(plain, true, F, {B, 0}, 1) == Approx(F / B * (12.0 / 4) / (5.0 / 2)));
  plan::Attention packed = plain;
  packed.backward_tensors = 3;
  CHECK(plan::smallest_block(packed, true, F, {B, 0}, 1) == Approx(F / B * (14.0 / 4) / (5.0 / 2)));
}

TEST_CASE("keys per query are what counting gives") {
  for (const std::int64_t tokens : {1, 7, 64, 1000}) {
    for (const std::int64_t width : {1, 3, 64, 5000}) {
      double causal = 0, window = 0;
      for (std::int64_t i = 0; i < tokens; ++i) {
        causal += static_cast<double>(i + 1);
        window += static_cast<double>(std::min(i + 1, width));
      }
      const auto n = static_cast<double>(tokens);
      CHECK(Sight{Sight::Kind::full}.keys(n) == n);
      CHECK(Sight{Sight::Kind::causal}.keys(n) == Approx(causal / n));
      CHECK(Sight{Sight::Kind::window, width}.keys(n) == Approx(window / n));
    }
  }
  double documents = 0;
  for (std::int64_t i = 0; i < 1000; ++i) documents += static_cast<double>(i % 50 + 1);
  CHECK(Sight{Sight::Kind::document, 50}.keys(1000) == Approx(documents / 1000));
  CHECK(Sight{Sight::Kind::causal, 0, true}.step_share(1e6) == Approx(0.5).epsilon(1e-5));
  CHECK(Sight{Sight::Kind::causal, 0, false}.step_share(1e6) == 1);
}

TEST_CASE("a message takes its latency and its bytes' time; no message takes none") {
  const plan::Link link{1e9, 1e-6};
  CHECK(link.seconds(1e6) == Approx(1e-6 + 1e-3));
  CHECK(link.seconds(0) == 0);
}

}  // namespace
}  // namespace rondo::test
