/// \file
/// How a run shows itself: a bar on a terminal, plain lines elsewhere, and a JSON line a step in a file.
#pragma once

#include "data.hpp"

#include <nlohmann/json.hpp>

#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

namespace train {

/// What is known after a step.
struct StepReport {
  std::int64_t step = 0;        ///< steps made
  std::int64_t tokens = 0;      ///< bytes learnt from until now
  double loss = 0;              ///< nats per byte, before the step's update
  double seconds = 0;           ///< of this step
  std::int64_t peak_bytes = 0;  ///< most that any rank has held in Views
  double wait_share = 0;        ///< of the step's time, mean over the ranks: waiting for blocks
};

inline std::string binary_size(std::int64_t bytes) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f MiB", static_cast<double>(bytes) / (1 << 20));
  return text;
}

/// Writes {step, tokens, loss, seconds, peak_bytes, wait_share} a line. Of a file that a resumed run finds, the lines of
/// the steps that it will not make again are kept.
class Metrics {
 public:
  Metrics() = default;
  Metrics(const std::filesystem::path& file, std::int64_t steps_done) {
    std::vector<std::string> kept;
    if (std::ifstream in(file); steps_done > 0) {
      for (std::string line; std::getline(in, line);) {
        const auto report = nlohmann::json::parse(line, nullptr, false);
        if (report.is_object() && report.value("step", steps_done + 1) <= steps_done) kept.push_back(line);
      }
    }
    out_.open(file);
    if (!out_) throw refusal("the metrics file " + file.string() + " cannot be written");
    for (const std::string& line : kept) out_ << line << "\n";
    out_.flush();
  }

  void write(const StepReport& report) {
    if (!out_.is_open()) return;
    out_ << nlohmann::ordered_json{{"step", report.step},
                                   {"tokens", report.tokens},
                                   {"loss", report.loss},
                                   {"seconds", report.seconds},
                                   {"peak_bytes", report.peak_bytes},
                                   {"wait_share", report.wait_share}}
                .dump()
         << std::endl;
  }

 private:
  std::ofstream out_;
};

/// Shows a run of `steps` steps on standard output.
class Progress {
 public:
  /// \param tokens  of a step
  Progress(std::int64_t steps, std::int64_t tokens)
      : steps_(steps), tokens_(tokens), terminal_(isatty(STDOUT_FILENO) != 0) {}

  void show(const StepReport& report) {
    seconds_ += report.seconds;
    ++shown_;
    const std::string step = number("step %.0f", report.step) + number("/%.0f", steps_);
    const std::string loss = number("loss %.4f", report.loss);
    const std::string speed = number("%.0f tokens/s", static_cast<double>(tokens_) / report.seconds);
    const std::string peak = "peak " + binary_size(report.peak_bytes) + " a rank";
    const std::string waiting = number("waiting %.1f %%", 100 * report.wait_share);
    if (terminal_) {
      std::printf("\r\x1b[K%s",
                  fitting({bar(report.step), step, loss, time_left(report.step), speed, peak, waiting}).c_str());
    } else {
      std::printf("%s  %s  %s  %s  %s\n", step.c_str(), loss.c_str(), speed.c_str(), peak.c_str(), waiting.c_str());
    }
    std::fflush(stdout);
  }

  /// Ends the bar's line.
  void end() const {
    if (terminal_ && shown_ > 0) std::printf("\n");
    std::fflush(stdout);
  }

 private:
  template <class Value>
  static std::string number(const char* format, Value value) {
    char text[64];
    std::snprintf(text, sizeof text, format, static_cast<double>(value));
    return text;
  }
  std::string bar(std::int64_t step) const {
    constexpr std::int64_t width = 20;
    const std::int64_t full = step * width / steps_;
    return "[" + std::string(static_cast<std::size_t>(full), '#') +
           std::string(static_cast<std::size_t>(width - full), '.') + "]";
  }
  std::string time_left(std::int64_t step) const {
    const auto seconds =
        static_cast<long long>(seconds_ / static_cast<double>(shown_) * static_cast<double>(steps_ - step));
    char text[32];
    std::snprintf(text, sizeof text, "%lld:%02lld left", seconds / 60, seconds % 60);
    return text;
  }
  /// As many of the parts as the terminal's width has room for: a line that wraps could not be drawn over.
  static std::string fitting(const std::vector<std::string>& parts) {
    winsize size{};
    const bool known = ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
    const std::size_t room = known ? size.ws_col - 1u : 79u;
    std::string line;
    for (const std::string& part : parts) {
      if (line.size() + (line.empty() ? 0 : 2) + part.size() > room) break;
      line += (line.empty() ? "" : "  ") + part;
    }
    return line;
  }

  std::int64_t steps_;
  std::int64_t tokens_;
  bool terminal_;
  double seconds_ = 0;
  std::int64_t shown_ = 0;
};

}  // namespace train
