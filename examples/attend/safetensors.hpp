/// \file
/// The safetensors format (Hugging Face): named tensors, row-major and little-endian, after a JSON header.
///
///   length N of the header, 8 bytes little-endian | header, N bytes | the tensors' bytes, each once and without a gap
///
///   header: {"__metadata__": {text: text, ...}, name: {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, ...}
#pragma once

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <set>
#include <span>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

static_assert(std::endian::native == std::endian::little, "safetensors files are little-endian, and read as they are");

namespace safetensors {

/// A file that is not what it should be, or not what was asked for.
struct refusal : std::runtime_error {
  using std::runtime_error::runtime_error;
};

template <class... Parts>
[[noreturn]] void refuse(const Parts&... parts) {
  std::ostringstream text;
  (text << ... << parts);
  throw refusal(text.str());
}

/// A type of elements.
struct Dtype {
  std::string_view name;
  std::size_t bytes = 0;
  friend bool operator==(const Dtype&, const Dtype&) = default;
};

inline constexpr Dtype F64{"F64", 8}, F32{"F32", 4}, F16{"F16", 2}, BF16{"BF16", 2}, I32{"I32", 4};

/// Those that a file may hold: of the last ones only the size is known.
inline constexpr std::array dtypes{F64,
                                   F32,
                                   F16,
                                   BF16,
                                   I32,
                                   Dtype{"I64", 8},
                                   Dtype{"U64", 8},
                                   Dtype{"U32", 4},
                                   Dtype{"I16", 2},
                                   Dtype{"U16", 2},
                                   Dtype{"I8", 1},
                                   Dtype{"U8", 1},
                                   Dtype{"BOOL", 1},
                                   Dtype{"F8_E5M2", 1},
                                   Dtype{"F8_E4M3", 1}};

/// A tensor's place: its bytes are [begin, end) behind the header.
struct Entry {
  std::string name;
  Dtype dtype;
  std::vector<std::int64_t> shape;
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
};

struct Header {
  std::vector<Entry> tensors;  ///< in the order of their bytes
  std::map<std::string, std::string> metadata;
  std::uint64_t data = 0;  ///< where the tensors' bytes begin in the file

  const Entry* find(std::string_view name) const {
    const auto found = std::find_if(tensors.begin(), tensors.end(), [&](const Entry& e) { return e.name == name; });
    return found == tensors.end() ? nullptr : &*found;
  }
};

/// Longer headers are refused, as the format's own library does: they would take memory for nothing.
inline constexpr std::uint64_t longest_header = 100'000'000;

inline std::string shape_text(const std::vector<std::int64_t>& shape) {
  std::string text = "[";
  for (std::size_t axis = 0; axis < shape.size(); ++axis) text += (axis ? ", " : "") + std::to_string(shape[axis]);
  return text + "]";
}

namespace detail {

/// A value as messages show it.
inline std::string shown(const nlohmann::json& value) {
  constexpr std::size_t most = 80;
  const std::string text = value.dump(-1, ' ', true);
  return text.size() <= most ? text : text.substr(0, most) + "...";
}

/// The JSON of a header, in which no object names anything twice and nothing lies deeper than a tensor's numbers.
inline nlohmann::json parse_json(std::string_view text) {
  std::vector<std::set<std::string>> names;  // of each open object
  const auto note = [&names](int depth, nlohmann::json::parse_event_t event, nlohmann::json& value) {
    using Event = nlohmann::json::parse_event_t;
    if ((event == Event::object_start || event == Event::array_start) && depth > 2) {
      refuse("the header has lists or objects inside each other ", depth + 1, " deep, the format has 3");
    }
    if (event == Event::object_start) names.emplace_back();
    if (event == Event::object_end) names.pop_back();
    if (event == Event::key && !names.back().insert(value.get<std::string>()).second) {
      refuse("the header names ", shown(value), " twice");
    }
    return true;
  };
  try {
    return nlohmann::json::parse(text, note);
  } catch (const nlohmann::json::exception& error) {
    std::string reason = error.what();  // it quotes the header, whose bytes may be any and many
    for (char& c : reason) c = c < ' ' || c > '~' ? '?' : c;
    refuse("the header is no JSON: ", reason.substr(0, 200));
  }
}

/// What messages call a tensor. Names are any text; what is not readable is escaped.
inline std::string quoted(const std::string& name) { return "tensor " + shown(name); }

inline Dtype dtype_of(const std::string& tensor, const nlohmann::json& value) {
  if (!value.is_string()) refuse(tensor, ": dtype is ", shown(value), ", it must be a string");
  const auto& text = value.get_ref<const std::string&>();
  const auto found = std::find_if(dtypes.begin(), dtypes.end(), [&](const Dtype& dtype) { return dtype.name == text; });
  if (found == dtypes.end()) refuse(tensor, ": dtype ", shown(value), " is not known");
  return *found;
}

inline std::vector<std::int64_t> shape_of(const std::string& tensor, const nlohmann::json& value) {
  if (!value.is_array()) refuse(tensor, ": shape is ", shown(value), ", it must be a list");
  std::vector<std::int64_t> shape;
  for (const auto& extent : value) {
    if (!extent.is_number_unsigned() || extent.get<std::uint64_t>() > INT64_MAX) {
      refuse(tensor, ": shape is ", shown(value), ", extents must be whole numbers from 0 to 2^63 - 1");
    }
    shape.push_back(extent.get<std::int64_t>());
  }
  return shape;
}

/// Bytes of a tensor. Every product is checked: nothing wraps round.
inline std::uint64_t size_of(const std::string& tensor, const Dtype& dtype, const std::vector<std::int64_t>& shape) {
  std::uint64_t size = dtype.bytes;
  for (const std::int64_t extent : shape) {
    if (extent < 0 || __builtin_mul_overflow(size, static_cast<std::uint64_t>(extent), &size)) {
      refuse(tensor, ": ", dtype.name, " of shape ", shape_text(shape), " has more than 2^64 bytes");
    }
  }
  return size;
}

inline std::pair<std::uint64_t, std::uint64_t> offsets_of(const std::string& tensor, const nlohmann::json& value) {
  if (!value.is_array() || value.size() != 2 || !value[0].is_number_unsigned() || !value[1].is_number_unsigned()) {
    refuse(tensor, ": data_offsets is ", shown(value), ", it must be two whole numbers");
  }
  return {value[0].get<std::uint64_t>(), value[1].get<std::uint64_t>()};
}

inline Entry entry_of(const std::string& name, const nlohmann::json& value) {
  const std::string tensor = quoted(name);
  if (!value.is_object()) refuse(tensor, " is ", shown(value), ", it must be an object");
  for (const char* field : {"dtype", "shape", "data_offsets"}) {
    if (!value.contains(field)) refuse(tensor, " has no ", field);
  }
  for (const auto& [field, ignored] : value.items()) {
    if (field != "dtype" && field != "shape" && field != "data_offsets") {
      refuse(tensor, " has a field ", shown(field), " that the format does not know");
    }
  }
  Entry entry{.name = name, .dtype = dtype_of(tensor, value["dtype"]), .shape = shape_of(tensor, value["shape"])};
  const std::uint64_t size = size_of(tensor, entry.dtype, entry.shape);
  std::tie(entry.begin, entry.end) = offsets_of(tensor, value["data_offsets"]);
  if (entry.begin > entry.end || entry.end - entry.begin != size) {
    refuse(tensor, ": ", entry.dtype.name, " of shape ", shape_text(entry.shape), " has ", size,
           " bytes, its data_offsets are [", entry.begin, ", ", entry.end, ")");
  }
  return entry;
}

inline std::map<std::string, std::string> metadata_of(const nlohmann::json& value) {
  if (!value.is_object()) refuse("__metadata__ is ", shown(value), ", it must be an object");
  std::map<std::string, std::string> metadata;
  for (const auto& [key, text] : value.items()) {
    if (!text.is_string()) refuse("__metadata__: ", shown(key), " is ", shown(text), ", it must be a string");
    metadata[key] = text.get<std::string>();
  }
  return metadata;
}

/// Tensors follow each other from the first byte behind the header to the file's last.
inline void check_places(const std::vector<Entry>& tensors, std::uint64_t room) {
  std::uint64_t at = 0;
  for (const Entry& tensor : tensors) {
    if (tensor.end > room) {
      refuse(quoted(tensor.name), " ends at byte ", tensor.end, ", the file has ", room, " bytes of data");
    }
    if (tensor.begin != at) {
      refuse(quoted(tensor.name), " begins at byte ", tensor.begin, ", the one before it ends at ", at, ": ",
             tensor.begin < at ? "they overlap" : "there is a hole");
    }
    at = tensor.end;
  }
  if (at != room) refuse("the tensors have ", at, " bytes, the file has ", room, " bytes of data");
}

}  // namespace detail

/// The header of a file, checked against what the file holds. \throws refusal  saying what is wrong with it
inline Header parse_header(std::span<const std::byte> file) {
  std::uint64_t length = 0;
  if (file.size() < sizeof length)
    refuse("the file has ", file.size(), " bytes, the length of the header alone needs 8");
  std::memcpy(&length, file.data(), sizeof length);
  if (length > longest_header) refuse("a header of ", length, " bytes: at most ", longest_header, " are read");
  if (length > file.size() - sizeof length) {
    refuse("a header of ", length, " bytes, the file has ", file.size() - sizeof length, " behind its length");
  }
  const std::string_view text(reinterpret_cast<const char*>(file.data()) + sizeof length, length);
  if (text.empty() || text.front() != '{') refuse("the header does not begin with {");
  // The parser takes a zero for the end, and would read nothing of what follows.
  if (const std::size_t at = text.find('\0'); at != text.npos)
    refuse("the header is no JSON: its byte ", at, " is zero");

  Header header;
  header.data = sizeof length + length;
  const nlohmann::json json = detail::parse_json(text);
  for (const auto& [name, value] : json.items()) {
    if (name == "__metadata__") {
      header.metadata = detail::metadata_of(value);
    } else {
      header.tensors.push_back(detail::entry_of(name, value));
    }
  }
  std::sort(header.tensors.begin(), header.tensors.end(),
            [](const Entry& a, const Entry& b) { return std::tie(a.begin, a.end) < std::tie(b.begin, b.end); });
  detail::check_places(header.tensors, file.size() - header.data);
  return header;
}

/// Where tensors of these types and shapes go in a new file. Larger elements come first, and the header is filled up with
/// spaces to a multiple of 8 bytes, so that all are aligned.
inline Header lay_out(std::vector<Entry> tensors, const std::map<std::string, std::string>& metadata,
                      std::string& text) {
  std::stable_sort(tensors.begin(), tensors.end(),
                   [](const Entry& a, const Entry& b) { return a.dtype.bytes > b.dtype.bytes; });
  nlohmann::ordered_json json = nlohmann::ordered_json::object();
  if (!metadata.empty()) json["__metadata__"] = metadata;
  std::uint64_t at = 0;
  for (Entry& tensor : tensors) {
    if (tensor.name == "__metadata__" || json.contains(tensor.name))
      refuse(detail::quoted(tensor.name), " cannot be written: the name is taken");
    tensor.begin = at;
    tensor.end = at += detail::size_of(detail::quoted(tensor.name), tensor.dtype, tensor.shape);
    json[tensor.name] = {
        {"dtype", tensor.dtype.name}, {"shape", tensor.shape}, {"data_offsets", {tensor.begin, tensor.end}}};
  }
  text = json.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  return {std::move(tensors), metadata, sizeof(std::uint64_t) + text.size()};
}

}  // namespace safetensors
