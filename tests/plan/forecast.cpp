#include "message_of.hpp"

#include <rondo/plan.hpp>

#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>

#include <cstdint>

namespace rondo::test {
namespace {

using Catch::Approx;
using plan::Sight;

/// 7B in four blocks of 4096 on a machine with a link of its own.
plan::Job job_with(double bytes_per_second) {
  plan::Job job;
  job.setting = {.model = plan::model("7B"), .ranks = 4, .chunk = 1024, .type = plan::precision("bfloat16")};
  job.machine = {.name = "test",
                 .flops = 100e12,
                 .flops_float = 25e12,
                 .memory_bytes = 1e12,
                 .ranks_per_node = 8,
                 .inside = {bytes_per_second, 0},
                 .between = {1e3, 0},
                 .source = "none"};
  job.sight.kind = Sight::Kind::full;
  job.context = 16384;
  job.efficiency = 0.5;
  return job;
}

TEST_CASE("behind a fast link nothing is exposed and utilisation is the kernels' share of the peak") {
  plan::Job job = job_with(1e15);
  job.setting.recompute = plan::Recompute::nothing;
  job.setting.parameter_bytes = 0;
  const plan::Forecast forecast = plan::forecast(job);
  CHECK(forecast.exposed_share() == 0);
  // Attention's backward pass is 2.5 times forward, counted as 2: more than half of the peak in attention's part.
  const double dense = plan::model("7B").dense_flops();
  const double attention = 32 * 4 * 4096.0 * 16384;
  CHECK(forecast.model_flops == Approx(3 * 16384 * (dense + attention)));
  CHECK(forecast.seconds == Approx(16384 * (3 * dense + 3.5 * attention) / (4 * 50e12)));
  CHECK(forecast.utilisation == Approx(0.5 * 3 * (dense + attention) / (3 * dense + 3.5 * attention)));
}

TEST_CASE("behind a slow link the steps with messages wait for the rest of them") {
  const double rate = 1e9;
  const plan::Forecast forecast = plan::forecast(job_with(rate));
  const plan::PassForecast& forward = forecast.forward;
  CHECK(forward.hop_bytes == 1024 * 2 * 4096 * 2);
  CHECK(forward.hop_seconds == Approx(forward.hop_bytes / rate));
  CHECK(forward.step_seconds == Approx(4.0 * 4096 * 1024 * 4096 / 50e12));
  // Four pieces, three hops each.
  CHECK(forward.exposed_seconds == Approx(4 * 3 * (forward.hop_seconds - forward.step_seconds)));
  CHECK(forward.compute_seconds == Approx(16 * forward.step_seconds));
  CHECK(forward.exposed_share() ==
        Approx(forward.exposed_seconds / (forward.exposed_seconds + 16 * forward.step_seconds)));
  CHECK(forecast.backward.hop_bytes == 3 * forward.hop_bytes);
}

TEST_CASE("from the smallest block on, and only then, nothing is exposed") {
  for (const double rate : {2e9, 20e9}) {
    plan::Job job = job_with(rate);
    for (const bool backward : {false, true}) {
      const double block = plan::forecast_pass(job.checked(), backward, 4096).smallest_block;
      CHECK(plan::forecast_pass(job, backward, static_cast<std::int64_t>(block * 1.01) + 1).exposed_seconds == 0);
      CHECK(plan::forecast_pass(job, backward, static_cast<std::int64_t>(block * 0.99)).exposed_seconds > 0);
    }
  }
}

TEST_CASE("the link between nodes counts as soon as there are two; one rank sends nothing") {
  plan::Job job = job_with(1e12);
  job.setting.ranks = 8;
  CHECK(plan::forecast(job).exposed_share() == 0);
  job.setting.ranks = 9;
  CHECK(plan::forecast(job).exposed_share() > 0.9);
  job.setting.ranks = 1;
  CHECK(plan::forecast(job).forward.hop_bytes == 0);
  CHECK(plan::forecast(job).exposed_share() == 0);
}

TEST_CASE("without a context the longest that fits is planned; what does not fit is said not to") {
  plan::Job job = job_with(1e12);
  job.machine.memory_bytes = 64e9;
  job.context = 0;
  const plan::Forecast longest = plan::forecast(job);
  CHECK(longest.context == longest.largest_context);
  CHECK(longest.fits);
  job.context = longest.context + 4;
  CHECK_FALSE(plan::forecast(job).fits);
  job.machine.memory_bytes = 1e9;
  job.context = 0;
  CHECK(plan::forecast(job).context == 0);
  CHECK_FALSE(plan::forecast(job).fits);
}

TEST_CASE("a long context costs what its attention costs") {
  plan::Job job = job_with(1e12);
  job.context = 1 << 20;
  const double dense = plan::model("7B").dense_flops(), pair = 32 * 4 * 4096.0;
  CHECK(plan::forecast(job).cost_ratio == Approx((dense + pair * (1 << 20)) / (dense + pair * 4096)));
  job.sight = {Sight::Kind::window, 4096};
  CHECK(plan::forecast(job).cost_ratio < 1.1);
}

TEST_CASE("what makes no sense is refused with numbers") {
  const auto refusal = [](const auto& change) {
    plan::Job job = job_with(1e12);
    change(job);
    return message_of<argument_error>([&] { plan::forecast(job); });
  };
  CHECK(refusal([](auto& job) { job.setting.ranks = 0; }) == "plan: ranks is 0, it must be at least 1");
  CHECK(refusal([](auto& job) { job.efficiency = 1.5; }) ==
        "plan: efficiency is 1.5, it must be above 0 and at most 1");
  CHECK(refusal([](auto& job) { job.setting.chunk = -1; }) == "plan: chunk is -1, it must be at least 1");
  CHECK(refusal([](auto& job) {
          job.sight = {Sight::Kind::window, 0};
        }) == "plan: width of the mask is 0, it must be at least 1");
  CHECK(refusal([](auto& job) {
          job.sight = {Sight::Kind::window, 8, false};
        }).find("simulate them") != std::string::npos);
  CHECK(refusal([](auto& job) { job.context = -5; }) == "plan: context is -5, it must be 0 or more");
}

}  // namespace
}  // namespace rondo::test
