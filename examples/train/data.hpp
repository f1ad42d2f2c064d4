/// \file
/// The text a model learns from: the files of a directory, one after the other, as bytes.
#pragma once

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

namespace train {

/// A request that cannot be met. What it says is for the user.
struct refusal : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// `context` + 1 neighbouring bytes of the text: byte i is read, byte i + 1 is to be predicted.
using Window = std::span<const std::uint8_t>;

/// A number that depends on nothing but its arguments and looks random (splitmix64 of Steele, Lea & Flood). What is
/// drawn at a step needs no state, so a resumed run draws the same.
constexpr std::uint64_t random_bits(std::uint64_t seed, std::uint64_t stream, std::uint64_t index) {
  const auto mix = [](std::uint64_t z) {
    z += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  };
  return mix(mix(mix(seed) ^ stream) ^ index);
}

/// A number that changes with the bytes (FNV-1a), and with the number that came before.
constexpr std::uint64_t fingerprint(std::span<const std::uint8_t> bytes, std::uint64_t before = 0xcbf29ce484222325u) {
  for (const std::uint8_t byte : bytes) before = (before ^ byte) * 0x100000001b3u;
  return before;
}

/// From the same bits, a number in (0, 1).
constexpr double random_unit(std::uint64_t seed, std::uint64_t stream, std::uint64_t index) {
  return (static_cast<double>(random_bits(seed, stream, index) >> 11) + 0.5) * 0x1p-53;
}

/// The whole text. A window in its middle is held out: the model is tested on it and never trained.
class Corpus {
 public:
  Corpus(std::vector<std::uint8_t> text, std::int64_t context) : text_(std::move(text)), context_(context) {
    if (context < 1) throw refusal("a context of " + std::to_string(context) + " bytes: at least 1 is needed");
    if (size() < 3 * length()) {
      throw refusal("the text has " + std::to_string(size()) + " bytes: a context of " + std::to_string(context) +
                    " needs " + std::to_string(3 * length()) + ", a window held out and room for one on each side");
    }
  }

  /// Reads all files below `directory` with one of the extensions (".hpp"; none: every file), in the order of their names.
  static Corpus read(const std::filesystem::path& directory, const std::vector<std::string>& extensions,
                     std::int64_t context) {
    if (!std::filesystem::is_directory(directory)) throw refusal("there is no directory " + directory.string());
    std::vector<std::filesystem::path> files;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(directory)) {
      const bool wanted = extensions.empty() || std::find(extensions.begin(), extensions.end(),
                                                          entry.path().extension().string()) != extensions.end();
      if (wanted && entry.is_regular_file()) files.push_back(entry.path());
    }
    std::sort(files.begin(), files.end());
    std::vector<std::uint8_t> text;
    for (const auto& file : files) {
      std::ifstream in(file, std::ios::binary);
      text.insert(text.end(), std::istreambuf_iterator<char>(in), {});
    }
    if (text.empty()) {
      std::string endings;
      for (const std::string& extension : extensions) endings += (endings.empty() ? " (ending in " : ", ") + extension;
      throw refusal("the directory " + directory.string() + " holds no files to learn from" + endings +
                    (endings.empty() ? "" : ")"));
    }
    Corpus corpus(std::move(text), context);
    corpus.files_ = static_cast<std::int64_t>(files.size());
    return corpus;
  }

  std::int64_t size() const { return static_cast<std::int64_t>(text_.size()); }
  std::int64_t files() const { return files_; }
  std::int64_t context() const { return context_; }

  /// The window of a step: a place drawn from the seed and the step alone, clear of what is held out.
  Window training(std::uint64_t seed, std::int64_t step) const {
    const std::int64_t before = middle() - length() + 1;              // windows that end before it
    const std::int64_t after = size() - middle() - 2 * length() + 1;  // windows that begin after it
    const std::uint64_t bits = random_bits(seed, text_stream, static_cast<std::uint64_t>(step));
    const auto place = static_cast<std::int64_t>(bits % static_cast<std::uint64_t>(before + after));
    return window(place < before ? place : place - before + middle() + length());
  }

  /// The windows of a step, each drawn on its own.
  std::vector<Window> training(std::uint64_t seed, std::int64_t step, std::int64_t count) const {
    std::vector<Window> windows;
    for (std::int64_t i = 0; i < count; ++i) windows.push_back(training(seed, step * count + i));
    return windows;
  }

  Window held_out() const { return window(middle()); }

  /// A checkpoint remembers by it what it was trained on.
  std::uint64_t fingerprint() const { return train::fingerprint(text_); }

 private:
  static constexpr std::uint64_t text_stream = 1'000'000;  // apart from the streams of the weights

  std::int64_t length() const { return context_ + 1; }
  std::int64_t middle() const { return (size() - length()) / 2; }
  Window window(std::int64_t first) const {
    return Window(text_).subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(length()));
  }

  std::vector<std::uint8_t> text_;
  std::int64_t context_;
  std::int64_t files_ = 0;
};

}  // namespace train
