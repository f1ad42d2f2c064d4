/// \file
/// rondo-plan: memory, overlap, speed and longest context of a ring, before one is built.
#include "measure.hpp"
#include "options.hpp"
#include "plot.hpp"
#include "published_tables.hpp"
#include "report.hpp"
#include "simulate.hpp"

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <optional>
#include <stdexcept>
#include <string>

// The figures as the papers print them.
#ifndef PLAN_PUBLISHED
#define PLAN_PUBLISHED "published.json"
#endif

namespace {

using planner::json;

json read_json(const std::string& path) {
  std::ifstream in(path);
  if (!in) throw std::runtime_error(path + " cannot be read");
  return json::parse(in);
}

void write_json(const std::filesystem::path& path, const json& value) {
  std::ofstream out(path);
  out << value.dump(1) << '\n';
  out.close();
  if (!out) throw std::runtime_error(path.string() + " cannot be written");
}

json run(const planner::Options& options) {
  if (options.published) return {{"published", planner::compare_published(read_json(PLAN_PUBLISHED))}};
  std::optional<rondo::plan::Machine> measured;
  planner::Options mine = options;
  if (options.measure) {
    measured = planner::measure_machine();
    mine.job.efficiency = 1;  // what was measured is what kernels reach
    std::printf("measured %.1f GFLOP/s in float, %.1f in bfloat16, %.2f GB/s and %.2f us between two ranks\n",
                measured->flops_float * 1e-9, measured->flops * 1e-9, measured->inside.bytes_per_second * 1e-9,
                measured->inside.latency * 1e6);
  }
  const rondo::plan::Job job = planner::job_of(mine, measured);
  if (options.simulate) return {{"simulation", planner::simulate_rings(job, options.simulation)}};
  const rondo::plan::Forecast forecast = rondo::plan::forecast(job);
  planner::print(forecast);
  return {{"plan", planner::to_json(forecast)}, {"curves", planner::curves(job)}};
}

}  // namespace

int main(int argc, char** argv) {
  planner::Options options;
  CLI::App app("Memory, overlap, speed and longest context of ring attention, from a model, a machine and a mask.");
  planner::declare(app, options);
  std::string names = "Models:";
  for (const auto& model : rondo::plan::models()) names += " " + model.name;
  names += "\nMachines:\n";
  for (const auto& machine : rondo::plan::machines()) names += "  " + machine.name + ": " + machine.source + "\n";
  app.footer(names);
  CLI11_PARSE(app, argc, argv);
  try {
    const json result = run(options);
    if (!options.json.empty()) write_json(options.json, result);
    if (!options.plot.empty()) {
      const std::filesystem::path data = options.plot.string() + ".json";
      write_json(data, result);
      std::fflush(stdout);
      planner::draw(data, options.plot);
      std::filesystem::remove(data);
    }
    return EXIT_SUCCESS;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "rondo-plan: %s\n", error.what());
    return EXIT_FAILURE;
  }
}
