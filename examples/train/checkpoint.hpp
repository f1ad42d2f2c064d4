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

/// All that must be the same for a resumed run to follow the same curve. Ranks, sharding and chunk are not in it: with the
/// same ones a resumed run computes the same bits, with others the same curve up to rounding.
inline nlohmann::ordered_json describe(const Recipe& recipe, const Corpus& corpus) {
  return {{"context", recipe.context},
          {"batch", recipe.batch},
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

/// A number that changes with the step and with every bit of the parts.
template <class T>
std::uint64_t fingerprint(std::int64_t step, const std::array<Flat<T>, 3>& parts) {
  std::uint64_t sum = fingerprint({reinterpret_cast<const std::uint8_t*>(&step), sizeof step});
  for (const Flat<T>& part : parts) {
    sum = fingerprint({reinterpret_cast<const std::uint8_t*>(part.data()), part.size() * sizeof(T)}, sum);
  }
  return sum;
}

/// Where a checkpoint is written before it takes the place of the former one.
inline std::filesystem::path unfinished(std::filesystem::path file) { return file += ".unfinished"; }

/// \throws refusal  when no checkpoint can be written there: better said before the first step than after many
inline void check_writable(const std::filesystem::path& file) {
  const bool opened =
      !std::filesystem::is_directory(file) && std::ofstream(unfinished(file), std::ios::binary).is_open();
  if (!opened) throw refusal("the checkpoint " + file.string() + " cannot be written");
  std::filesystem::remove(unfinished(file));
}

/// Writes to a temporary name and renames: a crash while writing leaves the former checkpoint whole.
/// \param parts  weights, first moment, second moment
template <class T>
void write_checkpoint(const std::filesystem::path& file, const nlohmann::ordered_json& recipe, std::int64_t step,
                      const std::array<Flat<T>, 3>& parts) {
  const std::string header = nlohmann::ordered_json{
      {"step", step},
      {"parameters", parts[0].size()},
      {"bytes of a number", sizeof(T)},
      {"fingerprint of the numbers", fingerprint(step, parts)},
      {"recipe", recipe}}.dump();
  const auto length = static_cast<std::uint64_t>(header.size());
  {
    std::ofstream out(unfinished(file), std::ios::binary);
    out.write(checkpoint_mark.data(), checkpoint_mark.size());
    out.write(reinterpret_cast<const char*>(&length), sizeof length);
    out.write(header.data(), static_cast<std::streamsize>(header.size()));
    for (const Flat<T>& part : parts) {
      out.write(reinterpret_cast<const char*>(part.data()), static_cast<std::streamsize>(part.size() * sizeof(T)));
    }
    out.close();
    if (!out) throw refusal("the checkpoint " + unfinished(file).string() + " cannot be written");
  }
  std::filesystem::rename(unfinished(file), file);
}

/// The header of a checkpoint; `in` stands behind it then. \throws refusal  when the file is none, or its header damaged
inline nlohmann::ordered_json read_header(std::istream& in, const std::filesystem::path& file,
                                          const std::string& name) {
  std::array<char, 8> mark{};
  std::uint64_t length = 0;
  in.read(mark.data(), mark.size());
  in.read(reinterpret_cast<char*>(&length), sizeof length);
  if (!in || mark != checkpoint_mark) throw refusal(name + " is not a checkpoint of this program");
  std::string text;
  if (length <= std::filesystem::file_size(file)) {
    text.resize(length);
    in.read(text.data(), static_cast<std::streamsize>(length));
  }
  auto header = nlohmann::ordered_json::parse(text, nullptr, false);
  const bool whole = in && header.is_object() && header["step"].is_number_integer() && header["recipe"].is_object();
  if (!whole) throw refusal(name + " is damaged: its header cannot be read");
  return header;
}

/// Reads the parts in place. \return the step
/// \throws refusal  when the file is none, is cut short or damaged, or belongs to another recipe: naming what differs
template <class T>
std::int64_t read_checkpoint(const std::filesystem::path& file, const nlohmann::ordered_json& recipe,
                             const std::array<Flat<T>, 3>& parts) {
  const std::string name = "the checkpoint " + file.string();
  std::ifstream in(file, std::ios::binary);
  if (!in || std::filesystem::is_directory(file)) throw refusal(name + " cannot be opened");
  const nlohmann::ordered_json header = read_header(in, file, name);

  std::string differences;
  for (const auto& [key, wanted] : recipe.items()) {
    const auto given = header["recipe"].value(key, nlohmann::ordered_json{});
    if (given == wanted) continue;
    differences +=
        (differences.empty() ? "" : ", ") + key + " is " + given.dump() + " there and " + wanted.dump() + " here";
  }
  if (!differences.empty()) throw refusal(name + " belongs to another run: " + differences);
  const std::uint64_t needed = static_cast<std::uint64_t>(in.tellg()) + 3 * parts[0].size() * sizeof(T);
  const std::uint64_t size = std::filesystem::file_size(file);
  if (size != needed) {
    throw refusal(name + " is damaged: it has " + std::to_string(size) + " bytes, needed are " +
                  std::to_string(needed));
  }
  for (const Flat<T>& part : parts) {
    in.read(reinterpret_cast<char*>(part.data()), static_cast<std::streamsize>(part.size() * sizeof(T)));
  }
  const std::int64_t step = header["step"];
  if (!in || header.value("fingerprint of the numbers", nlohmann::ordered_json{}) != fingerprint(step, parts)) {
    throw refusal(name + " is damaged: its numbers are not those that were written");
  }
  return step;
}

/// Rank 0 writes; all ranks know whether it could.
template <class Comm, class TrainerT>
void save(Comm& comm, const std::filesystem::path& file, const nlohmann::ordered_json& recipe,
          const TrainerT& trainer) {
  if (comm.rank() == 0) write_checkpoint(file, recipe, trainer.steps_done(), trainer.state());
  comm.barrier();
}

/// Rank 0 reads and tells the others.
template <class Comm, class TrainerT>
void resume(Comm& comm, const std::filesystem::path& file, const nlohmann::ordered_json& recipe, TrainerT& trainer) {
  std::int64_t step = 0;
  if (comm.rank() == 0) step = read_checkpoint(file, recipe, trainer.state());
  comm.broadcast(std::as_writable_bytes(std::span{&step, 1}), 0);
  for (const auto& part : trainer.state())
    comm.broadcast(std::as_writable_bytes(std::span{part.data(), part.size()}), 0);
  trainer.set_steps_done(step);
}

}  // namespace train
