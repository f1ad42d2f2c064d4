/// \file
/// Writes what the ranks' recorders hold as one Chrome trace.
#pragma once

#include <rondo/comm/concept.hpp>
#include <rondo/engine/recorder.hpp>
#include <rondo/error.hpp>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <limits>
#include <span>
#include <string>

namespace rondo {

/// Rank 0 writes the file; https://ui.perfetto.dev and chrome://tracing show it. Collective. Ranks of one machine share a
/// clock; those of several appear as far apart as their clocks are.
/// \throws error on every rank when the file cannot be written
template <Communicator Comm>
void write_trace(Comm& comm, const Recorder& recorder, const std::filesystem::path& file) {
  double zero = recorder.events().empty() ? std::numeric_limits<double>::max() : recorder.events().front().begin;
  comm.all_reduce(std::span{&zero, 1}, Reduction::minimum);
  std::ofstream out;
  if (comm.rank() == 0) out.open(file);
  out << "{\"traceEvents\":[\n";
  bool first = true;
  for (int rank = 0; rank < comm.size(); ++rank) {
    std::string text = rank == comm.rank() ? recorder.trace(rank, zero) : std::string();
    auto length = static_cast<std::int64_t>(text.size());
    comm.all_reduce(std::span{&length, 1}, Reduction::sum);
    text.resize(static_cast<std::size_t>(length));
    comm.broadcast(std::as_writable_bytes(std::span{text.data(), text.size()}), rank);
    if (text.empty()) continue;
    out << (first ? "" : ",\n") << text;
    first = false;
  }
  out << "\n]}\n";
  out.close();
  if (!comm.agree(comm.rank() != 0 || static_cast<bool>(out))) {
    throw error("the trace " + file.string() + " cannot be written");
  }
}

}  // namespace rondo
