/// \file
/// Continuing a prompt: the same model code with a short context, on a ring of one rank.
#pragma once

#include "model.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace train {

struct SampleOptions {
  std::string prompt = "template <class T>\nKOKKOS_FUNCTION ";
  std::int64_t bytes = 300;    ///< to write after the prompt
  double temperature = 0.7;    ///< 0: always the likeliest byte
  std::int64_t context = 256;  ///< bytes that the model looks back on
  std::uint64_t seed = 1;
};

/// Draws from softmax(logits / temperature). \param uniform  a number in (0, 1)
template <class T>
std::uint8_t draw(std::span<const T> logits, double temperature, double uniform) {
  const auto likeliest = std::max_element(logits.begin(), logits.end());
  if (temperature <= 0) return static_cast<std::uint8_t>(likeliest - logits.begin());
  std::vector<double> sums;
  double sum = 0;
  for (const T logit : logits)
    sums.push_back(sum += std::exp((static_cast<double>(logit) - static_cast<double>(*likeliest)) / temperature));
  const auto drawn = std::upper_bound(sums.begin(), sums.end(), uniform * sum);
  return static_cast<std::uint8_t>(
      std::min<std::ptrdiff_t>(drawn - sums.begin(), static_cast<std::ptrdiff_t>(sums.size()) - 1));
}

/// Bytes that a terminal can show: others become \xNN.
inline std::string printable(std::span<const std::uint8_t> text) {
  constexpr char digits[] = "0123456789abcdef";
  std::string shown;
  for (const std::uint8_t byte : text) {
    if (byte == '\n' || byte == '\t' || (byte >= 32 && byte < 127)) {
      shown += static_cast<char>(byte);
    } else {
      shown += {'\\', 'x', digits[byte / 16], digits[byte % 16]};
    }
  }
  return shown;
}

/// The prompt and what the model writes after it. The model sees the last `context` bytes; it computes them anew for
/// every byte it writes. \param stop  asked before every byte: true ends the text there
template <class T, class Stop>
std::vector<std::uint8_t> continue_text(const ParameterLayout& layout, const T* weights, const SampleOptions& options,
                                        const Stop& stop) {
  using Exec = Kokkos::DefaultHostExecutionSpace;
  constexpr std::uint64_t sample_stream = 2'000'000;
  const std::string prompt = options.prompt.empty() ? "\n" : options.prompt;  // something has to come before
  std::vector<std::uint8_t> text(prompt.begin(), prompt.end());
  const auto most = static_cast<std::size_t>(options.context);
  rondo::in_process_group<Exec>(1).run([&](auto& comm) {
    Model model(comm, layout.shape(), rondo::contiguous{options.context}, rondo::default_kernel<T, Exec>{});
    const auto parameters = bind<const T>(layout, weights);
    std::vector<std::uint8_t> window(most + 1);
    std::vector<T> logits(ModelShape::vocabulary);
    for (std::int64_t written = 0; written < options.bytes && !stop(); ++written) {
      // Under the causal mask what lies behind the text changes nothing.
      const std::size_t seen = std::min(text.size(), most);
      std::copy_n(text.end() - static_cast<std::ptrdiff_t>(seen), seen, window.begin());
      static_cast<void>(model.loss(parameters, window));
      model.logits(parameters, static_cast<std::int64_t>(seen) - 1, logits);
      text.push_back(draw<T>(logits, options.temperature,
                             random_unit(options.seed, sample_stream, static_cast<std::uint64_t>(written))));
    }
  });
  return text;
}

}  // namespace train
