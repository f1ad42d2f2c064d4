/// \file
/// Attention over a hundred million tokens on one machine, and whether it is right:
///   hundred_million rows        a few rows over keys and values that are made on the fly
///   hundred_million documents   forward and backward over packed documents
#include "options.hpp"
#include "show.hpp"

#include <CLI/CLI.hpp>

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <fstream>

int main(int argc, char** argv) {
  using namespace hundred_million;
  Options options;
  CLI::App app("Exact attention over a hundred million tokens, compared with an evaluation in double.");
  app.option_defaults()->always_capture_default()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  app.add_option("part", options.part, "rows, or documents")->required()->check(CLI::IsMember({"rows", "documents"}));
  app.add_option("--tokens", options.tokens, "Of the sequence")->check(CLI::PositiveNumber);
  app.add_option("--ranks", options.ranks, "Threads of this process")->check(CLI::PositiveNumber);
  app.add_option("--chunk", options.chunk, "Tokens that travel at a time")->check(CLI::PositiveNumber);
  app.add_option("--segment", options.segment, "rows: keys between two checkpoints")->check(CLI::PositiveNumber);
  app.add_option("--rows", options.rows, "rows: queries of each rank")->check(CLI::PositiveNumber);
  auto* file = app.add_option("--file", options.file,
                              "rows: read keys and values from this file, which is written first if it is not there");
  app.add_option(
         "--sharding", options.sharding,
         "documents: contiguous, most of it on the first and the last rank, or striped: every document on every rank")
      ->check(CLI::IsMember({"contiguous", "striped"}));
  app.add_option("--documents", options.documents_checked, "documents: how many to compare besides those at borders")
      ->check(CLI::NonNegativeNumber);
  app.add_option("--checkpoint", options.checkpoint, "Go on from this file if it is there, and keep the run in it");
  app.add_option("--leave-out", options.leave_out, "rows: leave out the piece with this key, to see the check fail")
      ->excludes(file);
  app.add_option("--stop-after", options.stop_after,
                 "Stop after so many segments, or after forward, as if interrupted");
  app.add_option("--json", options.json, "Write what came of it to this file");
  CLI11_PARSE(app, argc, argv);
  try {
    if (options.segment < options.ranks) throw std::runtime_error("--segment must be at least --ranks");
    const Kokkos::ScopeGuard kokkos(Kokkos::InitializationSettings().set_num_threads(1).set_disable_warnings(true));
    const MemoryCount memory;
    nlohmann::json result = options.part == "rows" ? run_rows(options) : run_documents(options);
    result["peak_bytes"] = MemoryCount::peak().load();
    result["peak_resident_bytes"] = peak_resident_bytes();
    std::printf("%s\n", result.dump(1).c_str());
    if (!options.json.empty()) {
      std::ofstream out(options.json);
      out << result.dump(1) << '\n';
      out.close();
      if (!out) throw std::runtime_error(options.json.string() + " cannot be written");
    }
    if (!result.at("finished")) return EXIT_SUCCESS;
    if (!result.at("right"))
      throw std::runtime_error("the result is wrong: the largest error is " + result.at("max_error").dump());
    return EXIT_SUCCESS;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "hundred_million: %s\n", error.what());
    return EXIT_FAILURE;
  }
}
