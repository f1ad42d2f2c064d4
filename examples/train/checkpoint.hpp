/// \file
/// A run on disk, from which it goes on to the same numbers: weights, both moments and the step, after a JSON header
/// that says what they belong to.
///
///   "RONDO1\n\0" | length of the header, 8 bytes | header | weights | first moment | second moment
#pragma once

#include "trainer.hpp"

#include <nlohmann/json.hpp>

#include <array>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <span>
#include <string>
#include <vector>

namespace train {

inline constexpr std::array<char, 8> checkpoint_mark{'R', 'O', 'N', 'D', 'O', '1', '\n', '\0'};

/// All that must be the same for a resumed run to follow the same curve. Ranks and sharding are not in it: the curve is
/// the same up to rounding.
inline nlohmann::ordered_json describe(const Recipe& recipe, const Corpus& corpus) {
  return {{"context", recipe.context},
          {"steps", recipe.steps},
          {"seed", recipe.seed},
          {"layers", recipe.model.layers},
          {"heads", recipe.model.heads},
          {"kv-heads", recipe.model.kv_heads},
          {"dim", recipe.model.dim},
          {"hidden", recipe.model.hidden},
          {"tied", recipe.model.tied},
          {"learning-rate", recipe.optimiser.learning_rate},
          {"warmup", recipe.optimiser.warmup},
          {"weight-decay", recipe.optimiser.weight_decay},
          {"clip", recipe.optimiser.clip},
          {"bytes of text", corpus.size()},
          {"fingerprint of the text", corpus.fingerprint()}};
}

/// Writes to a temporary name and renames: a crash while writing leaves the former checkpoint whole.
/// \param parts  weights, first moment, second moment
template <class T>
void write_checkpoint(const std::filesystem::path& file, const nlohmann::ordered_json& recipe, std::int64_t step,
                      const std::array<Flat<T>, 3>& parts) {
  const std::string header = nlohmann::ordered_json{{"step", step},
                                                    {"parameters", parts[0].size()},
                                                    {"bytes of a number", sizeof(T)},
                                                    {"recipe", recipe}}
                                 .dump();
  const auto length = static_cast<std::uint64_t>(header.size());
  std::filesystem::path unfinished = file;
  unfinished += ".unfinished";
  {
    std::ofstream out(unfinished, std::ios::binary);
    out.write(checkpoint_mark.data(), checkpoint_mark.size());
    out.write(reinterpret_cast<const char*>(&length), sizeof length);
    out.write(header.data(), static_cast<std::streamsize>(header.size()));
    for (const Flat<T>& part : parts) {
      out.write(reinterpret_cast<const char*>(part.data()), static_cast<std::streamsize>(part.size() * sizeof(T)));
    }
    out.close();
    if (!out) throw refusal("the checkpoint " + unfinished.string() + " cannot be written");
  }
  std::filesystem::rename(unfinished, file);
}

/// Reads the parts in place. \return the step
/// \throws refusal  when the file is none, is cut short, or belongs to another recipe: naming the values that differ
template <class T>
std::int64_t read_checkpoint(const std::filesystem::path& file, const nlohmann::ordered_json& recipe,
                             const std::array<Flat<T>, 3>& parts) {
  const std::string name = "the checkpoint " + file.string();
  std::ifstream in(file, std::ios::binary);
  if (!in) throw refusal(name + " cannot be opened");
  std::array<char, 8> mark{};
  std::uint64_t length = 0;
  in.read(mark.data(), mark.size());
  in.read(reinterpret_cast<char*>(&length), sizeof length);
  if (!in || mark != checkpoint_mark || length > std::filesystem::file_size(file)) {
    throw refusal(name + " is not a checkpoint of this program");
  }
  std::string text(length, '\0');
  in.read(text.data(), static_cast<std::streamsize>(length));
  const auto header = nlohmann::ordered_json::parse(text, nullptr, false);
  if (header.is_discarded()) throw refusal(name + " is damaged: its header cannot be read");

  std::string differences;
  for (const auto& [key, wanted] : recipe.items()) {
    const auto given = header["recipe"].value(key, nlohmann::ordered_json{});
    if (given == wanted) continue;
    differences += (differences.empty() ? "" : ", ") + key + " is " + given.dump() + " there and " + wanted.dump() + " here";
  }
  if (!differences.empty()) throw refusal(name + " belongs to another run: " + differences);
  const std::uint64_t payload = 3 * parts[0].size() * sizeof(T);
  const std::uint64_t needed = sizeof mark + sizeof length + length + payload;
  if (header["bytes of a number"] != sizeof(T) || std::filesystem::file_size(file) != needed) {
    throw refusal(name + " has " + std::to_string(std::filesystem::file_size(file)) + " bytes, needed are " +
                  std::to_string(needed));
  }
  for (const Flat<T>& part : parts) {
    in.read(reinterpret_cast<char*>(part.data()), static_cast<std::streamsize>(part.size() * sizeof(T)));
  }
  return header["step"];
}

/// Rank 0 writes; all ranks know whether it could.
template <class Comm, class TrainerT>
void save(Comm& comm, const std::filesystem::path& file, const nlohmann::ordered_json& recipe, const TrainerT& trainer) {
  if (comm.rank() == 0) write_checkpoint(file, recipe, trainer.steps_done(), trainer.state());
  comm.barrier();
}

/// Rank 0 reads and tells the others.
template <class Comm, class TrainerT>
void resume(Comm& comm, const std::filesystem::path& file, const nlohmann::ordered_json& recipe, TrainerT& trainer) {
  std::int64_t step = 0;
  if (comm.rank() == 0) step = read_checkpoint(file, recipe, trainer.state());
  comm.broadcast(std::as_writable_bytes(std::span{&step, 1}), 0);
  for (const auto& part : trainer.state()) comm.broadcast(std::as_writable_bytes(std::span{part.data(), part.size()}), 0);
  trainer.set_steps_done(step);
}

}  // namespace train
