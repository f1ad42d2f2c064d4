/// \file
/// The largest of each kind of number that the tests of a program measured, printed when they have run.
#pragma once

#include <map>
#include <mutex>
#include <ostream>
#include <string>

namespace rondo::test {

/// Keeps, for each name, the largest value noted and the case it came from.
class Measurements {
 public:
  static Measurements& instance() {
    static Measurements measurements;
    return measurements;
  }

  void note(const std::string& name, double value, const std::string& from) {
    const std::lock_guard lock(mutex_);
    const auto [entry, is_new] = largest_.try_emplace(name, Entry{value, from});
    if (!is_new && !(value <= entry->second.value)) entry->second = {value, from};
  }

  void print(std::ostream& stream) const {
    if (!largest_.empty()) stream << "largest measured:\n";
    for (const auto& [name, entry] : largest_) {
      stream << "  " << name << ": " << entry.value << "  (" << entry.from << ")\n";
    }
  }

 private:
  struct Entry {
    double value;
    std::string from;
  };
  std::mutex mutex_;
  std::map<std::string, Entry> largest_;
};

}  // namespace rondo::test
