/// \file
/// The figures of the papers beside those of rondo::plan's formulas.
#pragma once

#include "units.hpp"

#include <rondo/plan.hpp>

#include <nlohmann/json.hpp>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <map>
#include <string>

namespace planner {

using nlohmann::json;
using rondo::plan::Method;

/// Table 3's machines as its caption and table 2 describe them: TPU v3's memory is a core's.
inline rondo::plan::PublishedHost published_host(const std::string& name) {
  static const std::map<std::string, rondo::plan::PublishedHost> hosts{{"8x A100 NVLink", {80 * 0x1p30, 8, 4}},
                                                                       {"32x A100 InfiniBand", {80 * 0x1p30, 32, 4}},
                                                                       {"TPUv3-512", {16 * 0x1p30, 512, 2}},
                                                                       {"TPUv4-1024", {32 * 0x1p30, 512, 2}},
                                                                       {"TPUv5e-256", {16 * 0x1p30, 256, 2}}};
  const auto found = hosts.find(name);
  if (found == hosts.end()) throw rondo::argument_error("published figures: there is no description of " + name);
  return found->second;
}

/// Table 1 at one point: the text that is printed, and its value.
inline json activations(const json& printed) {
  static constexpr std::pair<Method, const char*> rows[] = {{Method::vanilla, "vanilla"},
                                                            {Method::memory_efficient, "memory_efficient_attention"},
                                                            {Method::blockwise, "blockwise_attention_and_feed_forward"},
                                                            {Method::ring, "ring_attention"}};
  const double b = 1, s = 131'072, h = 4096, n = 32, c = 4096;
  std::printf(
      "Activations of a layer (table 1), for b = 1, s = 131072, h = 4096, n = 32, c = 4096; bytes in bfloat16, but\n"
      "the ring's are elements: its bytes are twice that.\n");
  json table = json::array();
  for (const auto& [method, name] : rows) {
    const auto a = rondo::plan::published_activation(method, b, s, h, n, c);
    const std::string text = printed.at(name).at("total");
    std::printf("  %-38s %-12s %12s\n", name, text.c_str(), bytes_text(a.total).c_str());
    table.push_back({{"method", name},
                     {"printed", text},
                     {"attention", a.attention},
                     {"feed_forward", a.feed_forward},
                     {"total", a.total}});
  }
  return table;
}

inline json blocks(const json& printed) {
  std::printf("\nSmallest block that hides communication, F/B, and sequence, 6 F/B, in thousands (table 2):\n");
  json table = json::array();
  for (const json& row : printed) {
    const double flops = row.at("tflops").get<double>() * 1e12;
    const double rate = row.at("interconnect_gb_s").get<double>() * 1e9;
    const double block = rondo::plan::published_block(flops, rate) / 1000;
    const double sequence = rondo::plan::published_sequence(flops, rate) / 1000;
    const auto same = [](double value, double as_printed) {
      return format("%.1f", value) == format("%.1f", as_printed);
    };
    const bool equal = same(block, row.at("block_k")) && same(sequence, row.at("sequence_k"));
    std::printf("  %-18s %6.2f (printed %5.1f) %7.2f (printed %5.1f)%s\n", row.at("host").get<std::string>().c_str(),
                block, row.at("block_k").get<double>(), sequence, row.at("sequence_k").get<double>(),
                equal ? "" : "  differs: 312 / 12.5 is 24.96");
    table.push_back({{"host", row.at("host")},
                     {"block_k", block},
                     {"printed_block_k", row.at("block_k")},
                     {"sequence_k", sequence},
                     {"printed_sequence_k", row.at("sequence_k")},
                     {"equal", equal}});
  }
  return table;
}

inline json contexts(const json& printed) {
  std::printf(
      "\nLargest context in thousands (table 3), ours from a memory model of our own (plan/published.hpp):\n"
      "  %-20s %-4s %19s %19s %19s %19s %13s\n",
      "machine", "", "vanilla", "memory-efficient", "blockwise", "ring", "ring/blockw.");
  json table = json::array();
  for (const json& row : printed) {
    const std::string host = row[0], model = row[1];
    const int ranks = row[6];
    json ours = json::array();
    std::printf("  %-20s %-4s", host.c_str(), model.c_str());
    for (int method = 0; method < 4; ++method) {
      const std::int64_t tokens = rondo::plan::published_context(static_cast<Method>(method), rondo::plan::model(model),
                                                                 published_host(host), ranks);
      ours.push_back(static_cast<double>(tokens) / 1024);
      std::printf(" %6.0f (prt. %6d)", ours.back().get<double>(), row[2 + static_cast<std::size_t>(method)].get<int>());
    }
    const double ratio = ours[3].get<double>() / ours[2].get<double>();
    std::printf(" %4.0f (p. %4d)\n", ratio, ranks);
    table.push_back({{"hardware", host},
                     {"model", model},
                     {"context_k", ours},
                     {"printed_context_k", {row[2], row[3], row[4], row[5]}},
                     {"ratio", ratio},
                     {"printed_ratio", ranks}});
  }
  return table;
}

inline json utilisations(const json& printed) {
  std::printf(
      "\nModel FLOP utilisation (table 4): nothing of the ring's communication is exposed, so it is that of the "
      "kernels\n"
      "(here half of the peak, everything computed again). Tokens of a rank beside the smallest block that hides:\n");
  json table = json::array();
  for (const json& row : printed) {
    const std::string host = row[1];
    rondo::plan::Job job;
    job.setting.model = rondo::plan::model(row[0]);
    job.machine = rondo::plan::machine(host.find("A100") != std::string::npos ? "A100" : "TPUv4");
    if (host == "32x A100") job.machine.between = {12.5e9, 0};
    job.setting.ranks = host == "8x A100" ? 8 : host == "32x A100" ? 32 : 512;
    job.context = row[3].get<std::int64_t>() * 1024;
    const rondo::plan::Forecast forecast = rondo::plan::forecast(job);
    std::printf("  %-4s %-11s context %5lldK: %6lld tokens, %6.0f needed, %.1f %% exposed, utilisation %.1f %%\n",
                row[0].get<std::string>().c_str(), host.c_str(), row[3].get<long long>(),
                static_cast<long long>(forecast.tokens),
                std::max(forecast.forward.smallest_block, forecast.backward.smallest_block),
                100 * forecast.exposed_share(), 100 * forecast.utilisation);
    table.push_back({{"model", row[0]},
                     {"hardware", host},
                     {"context_k", row[3]},
                     {"tokens_per_rank", forecast.tokens},
                     {"exposed_share", forecast.exposed_share()},
                     {"utilisation", forecast.utilisation}});
  }
  return table;
}

inline json costs(const json& printed) {
  std::printf("\nOperations on the same data relative to a context of 4096, (6h + s2) / (6h + s1) (figure 5):\n");
  json table = json::array();
  for (const json& row : printed.at("rows")) {
    const auto given = row[1].get<double>();
    const double h = given == 5140 ? 5120 : given;
    std::printf("  %-5s h %6.0f:", row[0].get<std::string>().c_str(), h);
    json ours = json::array(), theirs = json::array();
    bool equal = true;
    for (std::size_t i = 0; i < printed.at("context_multiples").size(); ++i) {
      const double context = 4096 * printed.at("context_multiples")[i].get<double>();
      ours.push_back(rondo::plan::published_cost_ratio(h, context, 4096));
      theirs.push_back(row[2 + i]);
      equal = equal && format("%.1f", ours.back().get<double>()) == format("%.1f", row[2 + i].get<double>());
      std::printf(" %.1f", ours.back().get<double>());
    }
    std::printf("%s%s\n", equal ? "  as printed" : "  not as printed",
                h == given ? "" : " (there as h 5140, which gives other digits)");
    table.push_back({{"model", row[0]},
                     {"hidden", h},
                     {"printed_hidden", given},
                     {"ratios", ours},
                     {"printed", theirs},
                     {"equal", equal}});
  }
  return table;
}

/// Prints all tables. \param printed  the figures as the papers print them
inline json compare_published(const json& printed) {
  json result;
  result["activations"] = activations(printed.at("table1_max_activation_bytes"));
  result["blocks"] = blocks(printed.at("table2_minimal_block"));
  result["contexts"] = contexts(printed.at("table3_max_context_k").at("rows"));
  result["utilisations"] = utilisations(printed.at("table4_mfu").at("rows"));
  result["costs"] = costs(printed.at("figure5_flops_ratio"));
  return result;
}

}  // namespace planner
