/// \file
/// What a user can say, and what a run has found.
#pragma once

#include <nlohmann/json.hpp>

#include <cstdint>
#include <filesystem>
#include <stdexcept>
#include <string>

namespace hundred_million {

struct Options {
  std::string part;
  std::int64_t tokens = 100'000'000;
  int ranks = 4;
  std::int64_t chunk = 65'536;
  std::int64_t segment = 2'000'000;     ///< rows: keys between two checkpoints
  int rows = 4;                         ///< rows: of each rank
  std::string sharding = "contiguous";  ///< documents: or striped
  int documents_checked = 40;           ///< documents: besides those at the borders of shards
  std::filesystem::path file;           ///< rows: keys and values are read from it; written first where it is not there
  std::filesystem::path checkpoint;
  std::int64_t leave_out = -1;  ///< rows: leave out the piece with this key, to see the check fail
  std::int64_t stop_after = 0;  ///< segments to do before stopping, as if interrupted; documents: the forward pass
  std::filesystem::path json;
};

/// The largest error that passes, relative to the root mean square of a row or, for gradients, of the document.
inline constexpr double tolerance = 1e-3;

/// Attention of a few rows over all keys, which are made on the fly.
nlohmann::json run_rows(const Options& options);

/// Forward and backward over packed documents.
nlohmann::json run_documents(const Options& options);

}  // namespace hundred_million
