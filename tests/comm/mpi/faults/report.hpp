/// \file
/// What each process of a fault test experienced, in a file of its own: mpiexec's own status says nothing when a process
/// was killed on purpose.
#pragma once

#include "../world.hpp"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <thread>

namespace rondo::test {

/// Seconds on a clock that all processes of a machine share.
inline double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

class Report {
 public:
  explicit Report(std::filesystem::path directory) : directory_(std::move(directory)) {}

  /// The moment from which on something is wrong, noted by the one to blame.
  void fault_begins() const { write("fault", std::to_string(now())); }
  double seconds_since_fault() const {
    std::ifstream in(directory_ / "fault");
    double then = 0;
    return in >> then ? now() - then : -1;
  }

  /// This process's line.
  void outcome(const std::string& text) const { write("rank." + std::to_string(world_rank()), text); }

  /// Ends the process when `reports` processes have written theirs: launchers end the others when one has gone. Nothing
  /// is taken down in order: after a failure MPI_Finalize could wait for ever.
  [[noreturn]] void end_together(int reports) const {
    for (int i = 0; i < 300 && count() < reports; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(50));
    std::_Exit(0);
  }

 private:
  void write(const std::string& name, const std::string& text) const {
    const auto unfinished = directory_ / (name + ".unfinished");
    std::ofstream(unfinished) << text << std::endl;
    std::filesystem::rename(unfinished, directory_ / name);
  }
  int count() const {
    int reports = 0;
    for (const auto& entry : std::filesystem::directory_iterator(directory_)) {
      const auto name = entry.path().filename().string();
      reports += name.starts_with("rank.") && !name.ends_with(".unfinished") ? 1 : 0;
    }
    return reports;
  }

  std::filesystem::path directory_;
};

}  // namespace rondo::test
