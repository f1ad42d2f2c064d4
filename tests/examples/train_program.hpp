/// \file
/// The program train as a user runs it, on a small text.
#pragma once

#include "../../examples/train/data.hpp"

#include <support/process.hpp>
#include <support/temporary_directory.hpp>

#include <nlohmann/json.hpp>

#include <cstdint>
#include <filesystem>
#include <iterator>
#include <string>
#include <vector>

namespace rondo::test {

/// Lines that look like code, from a fixed seed.
inline std::string code_like_text(std::size_t bytes) {
  static const std::string words[] = {
      "for (int i = 0; i < n; ++i) {\n", "  sum += x[i];\n", "}\n", "return sum;\n", "template <class T>\n",
      "if (i == j) continue;\n"};
  std::string text;
  for (std::uint64_t i = 0; text.size() < bytes; ++i) {
    text += words[train::random_bits(7, 1, i) % std::size(words)];
    text += "int v" + std::to_string(train::random_bits(7, 2, i) % 97) + ";\n";
  }
  return text;
}

/// A directory in which the program runs, with text to learn from in its folder `text`.
class Workplace {
 public:
  explicit Workplace(const std::string& text = code_like_text(6000)) {
    std::filesystem::create_directories(files.path() / "text" / "inner");
    write_file(files / "text/a.hpp", text.substr(0, text.size() / 2));
    write_file(files / "text/inner/b.hpp", text.substr(text.size() / 2));
    write_file(files / "text/inner/notes.txt", "not to be read");
  }

  /// The command for a model that learns in milliseconds, with more options.
  std::vector<std::string> command(const std::vector<std::string>& options = {}) const {
    std::vector<std::string> words{TRAIN_PROGRAM, files / "text",
                                   "--context",   "101",
                                   "--dim",       "16",
                                   "--heads",     "2",
                                   "--kv-heads",  "1",
                                   "--layers",    "2",
                                   "--hidden",    "24",
                                   "--steps",     "9",
                                   "--chunk",     "16",
                                   "--sample",    "0"};
    words.insert(words.end(), options.begin(), options.end());
    return words;
  }
  ProcessResult run(const std::vector<std::string>& options = {}, Screen screen = {}) const {
    return run_process(command(options), files.path(), screen);
  }
  std::string file(const std::string& name) const { return files / name; }

  TemporaryDirectory files;
};

/// The lines of a metrics file.
inline std::vector<nlohmann::json> read_metrics(const std::filesystem::path& file) {
  std::vector<nlohmann::json> lines;
  const std::string text = read_file(file);
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = text.find('\n', begin);
    if (end == std::string::npos) throw std::runtime_error("the last line of " + file.string() + " has no end");
    lines.push_back(nlohmann::json::parse(text.substr(begin, end - begin)));
    begin = end + 1;
  }
  return lines;
}

/// Its losses, step by step.
inline std::vector<double> read_losses(const std::filesystem::path& file) {
  std::vector<double> losses;
  for (const nlohmann::json& line : read_metrics(file)) losses.push_back(line.at("loss"));
  return losses;
}

}  // namespace rondo::test
