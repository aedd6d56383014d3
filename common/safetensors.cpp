// SPDX-License-Identifier: Apache-2.0
#include "common/safetensors.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>
#include <stdexcept>
#include <tuple>
#include <utility>

#include "common/strict_json.h"

namespace dai {

using nlohmann::json;

// The header length and all data are little-endian and used as they lie.
static_assert(std::endian::native == std::endian::little);

namespace {

constexpr std::uint64_t kMaxHeaderBytes = 100'000'000;  // the format's limit
constexpr const char* kMetadataKey = "__metadata__";

struct DtypeInfo {
  std::string_view name;
  std::size_t bytes;
};
// clang-format off
constexpr std::array<DtypeInfo, 15> kDtypes{{  // in the order of the enum
    {"BOOL", 1}, {"U8", 1}, {"I8", 1}, {"F8_E5M2", 1}, {"F8_E4M3", 1},
    {"I16", 2}, {"U16", 2}, {"F16", 2}, {"BF16", 2},
    {"I32", 4}, {"U32", 4}, {"F32", 4},
    {"F64", 8}, {"I64", 8}, {"U64", 8},
}};
// clang-format on

std::int64_t checked_product(const Shape& shape, std::int64_t unit) {
  bool empty = false;
  for (const std::int64_t size : shape) {
    if (size < 0 || (size > 0 && __builtin_mul_overflow(unit, size, &unit))) {
      throw std::invalid_argument(fmt::format(
          "shape [{}] is negative or too large", fmt::join(shape, ", ")));
    }
    empty = empty || size == 0;
  }
  return empty ? 0 : unit;
}

TensorView read_entry(const json& entry, std::span<const std::byte> data,
                      std::string_view where) {
  want_keys(entry, {"dtype", "shape", "data_offsets"}, where);
  TensorView view;
  view.dtype = parse_dtype(get_string(entry, "dtype", where), where);
  view.shape = get_counts(entry, "shape", where);
  const auto range = get_counts(entry, "data_offsets", where);
  if (range.size() != 2 || range[0] > range[1] ||
      std::cmp_greater(range[1], data.size())) {
    refuse(where, "data_offsets [{}] are no range in {} bytes of data",
           fmt::join(range, ", "), data.size());
  }
  const auto begin = static_cast<std::size_t>(range[0]);
  const auto size = static_cast<std::size_t>(range[1] - range[0]);
  std::size_t wanted = 0;
  try {
    wanted = tensor_bytes(view.dtype, view.shape);
  } catch (const std::invalid_argument& error) {
    refuse(where, "{}", error.what());
  }
  if (size != wanted) {
    refuse(where, "data_offsets give {} bytes, dtype and shape {}", size,
           wanted);
  }
  view.bytes = data.subspan(begin, size);
  return view;
}

}  // namespace

std::string_view dtype_name(Dtype dtype) {
  return kDtypes.at(static_cast<std::size_t>(dtype)).name;
}

std::size_t dtype_bytes(Dtype dtype) {
  return kDtypes.at(static_cast<std::size_t>(dtype)).bytes;
}

Dtype parse_dtype(std::string_view name, std::string_view where) {
  std::string known;
  for (std::size_t i = 0; i < kDtypes.size(); ++i) {
    if (kDtypes[i].name == name) return static_cast<Dtype>(i);
    known += fmt::format(" {}", kDtypes[i].name);
  }
  refuse(where, "unknown dtype {} (known:{})", printable(name), known);
}

std::int64_t element_count(const Shape& shape) {
  return checked_product(shape, 1);
}

std::size_t tensor_bytes(Dtype dtype, const Shape& shape) {
  return static_cast<std::size_t>(
      checked_product(shape, static_cast<std::int64_t>(dtype_bytes(dtype))));
}

SafetensorsIndex parse_safetensors(std::span<const std::byte> file,
                                   std::string_view where) {
  std::uint64_t header_bytes = 0;
  if (file.size() < sizeof header_bytes) {
    refuse(where, "{} bytes is too short for a safetensors file", file.size());
  }
  std::memcpy(&header_bytes, file.data(), sizeof header_bytes);
  file = file.subspan(sizeof header_bytes);
  if (header_bytes > std::min<std::uint64_t>(file.size(), kMaxHeaderBytes)) {
    refuse(where,
           "not a safetensors file, or cut off: header of {} bytes, {} follow "
           "and {} is the limit",
           header_bytes, file.size(), kMaxHeaderBytes);
  }
  const std::string_view header(reinterpret_cast<const char*>(file.data()),
                                static_cast<std::size_t>(header_bytes));
  if (!header.starts_with('{')) {
    refuse(where, "not a safetensors file: the header is no JSON object");
  }
  // Deepest: { name: { "shape": [ ] } }.
  const json root =
      parse_strict_json(header, fmt::format("{}: header", where), 3);
  const auto data = file.subspan(header.size());

  SafetensorsIndex index;
  std::vector<std::pair<std::size_t, std::size_t>> ranges;  // begin, end
  for (const auto& [name, entry] : root.items()) {
    if (name == kMetadataKey) {
      index.metadata = get_strings(root, kMetadataKey, where);
      continue;
    }
    const TensorView view = read_entry(
        entry, data, fmt::format("{}: tensor {}", where, printable(name)));
    const auto begin =
        static_cast<std::size_t>(view.bytes.data() - data.data());
    ranges.emplace_back(begin, begin + view.bytes.size());
    index.tensors.emplace(name, view);
  }
  // No byte of the data may belong to two tensors or to none: what the header
  // does not describe could hide anything (the format's own rule).
  std::sort(ranges.begin(), ranges.end());
  std::size_t expected = 0;
  for (const auto& [begin, end] : ranges) {
    if (begin != expected) {
      refuse(where, "tensors {} at byte {} of the data",
             begin < expected ? "overlap" : "leave a hole",
             std::min(begin, expected));
    }
    expected = end;
  }
  if (expected != data.size()) {
    refuse(where, "tensors end at byte {} of {} bytes of data", expected,
           data.size());
  }
  return index;
}

SafetensorsFile SafetensorsFile::open(const std::filesystem::path& path) {
  return {fmt::format("'{}'", path.string()), MappedFile(path)};
}

SafetensorsFile::SafetensorsFile(std::string where, MappedFile file)
    : where_(std::move(where)),
      file_(std::move(file)),
      index_(parse_safetensors(file_.bytes(), where_)) {}

std::vector<std::string> SafetensorsFile::names() const {
  std::vector<std::string> names;
  for (const auto& [name, view] : index_.tensors) names.push_back(name);
  return names;
}

const TensorView* SafetensorsFile::find(std::string_view name) const {
  const auto it = index_.tensors.find(name);
  return it == index_.tensors.end() ? nullptr : &it->second;
}

const TensorView& SafetensorsFile::at(std::string_view name) const {
  if (const TensorView* view = find(name)) return *view;
  refuse(where_, "no tensor {} among its {}", printable(name),
         index_.tensors.size());
}

SafetensorsWriter::SafetensorsWriter(const std::filesystem::path& path,
                                     std::vector<Entry> entries,
                                     const Metadata& metadata)
    : entries_(std::move(entries)), file_(path) {
  std::sort(entries_.begin(), entries_.end(),
            [](const Entry& a, const Entry& b) {
              return std::tie(b.dtype, a.name) < std::tie(a.dtype, b.name);
            });
  // Built as text: nlohmann's ordered object searches linearly for each key.
  std::string text = "{";
  if (!metadata.empty()) {
    text += fmt::format("\"{}\":{},", kMetadataKey, json(metadata).dump());
  }
  std::set<std::string_view> seen{kMetadataKey};
  std::size_t offset = 0;
  for (const Entry& entry : entries_) {
    if (!seen.insert(entry.name).second) {
      throw std::invalid_argument(fmt::format(
          "tensor name {} is reserved or given twice", printable(entry.name)));
    }
    const std::size_t end = offset + tensor_bytes(entry.dtype, entry.shape);
    text += fmt::format(
        R"({}:{{"dtype":"{}","shape":[{}],"data_offsets":[{},{}]}},)",
        json(entry.name).dump(), dtype_name(entry.dtype),
        fmt::join(entry.shape, ","), offset, end);
    offset = end;
  }
  if (text.size() > 1) text.pop_back();  // the last comma
  text += '}';
  text.resize((text.size() + 7) / 8 * 8, ' ');  // data starts 8-aligned
  if (text.size() > kMaxHeaderBytes) {
    throw std::invalid_argument("header larger than the format's 100 MB");
  }
  const std::uint64_t header_bytes = text.size();
  file_.write(std::as_bytes(std::span(&header_bytes, 1)));
  file_.write(std::as_bytes(std::span(text)));
}

void SafetensorsWriter::write(std::string_view name,
                              std::span<const std::byte> bytes) {
  if (written_ == entries_.size() || entries_[written_].name != name) {
    throw std::invalid_argument(
        fmt::format("tensor {} written out of order", printable(name)));
  }
  const Entry& entry = entries_[written_];
  if (bytes.size() != tensor_bytes(entry.dtype, entry.shape)) {
    throw std::invalid_argument(
        fmt::format("tensor {} needs {} bytes, got {}", printable(name),
                    tensor_bytes(entry.dtype, entry.shape), bytes.size()));
  }
  file_.write(bytes);
  ++written_;
}

void SafetensorsWriter::commit() {
  if (written_ != entries_.size()) {
    throw std::invalid_argument(
        fmt::format("{} of {} tensors written", written_, entries_.size()));
  }
  file_.commit();
}

void save_safetensors(const std::filesystem::path& path,
                      const std::vector<NamedTensor>& tensors,
                      const Metadata& metadata) {
  std::vector<SafetensorsWriter::Entry> entries;
  std::map<std::string_view, std::span<const std::byte>> bytes;
  for (const NamedTensor& tensor : tensors) {
    entries.push_back({tensor.name, tensor.dtype, tensor.shape});
    bytes[tensor.name] = tensor.bytes;
  }
  SafetensorsWriter writer(path, std::move(entries), metadata);
  for (const auto& entry : writer.order()) {
    writer.write(entry.name, bytes.at(entry.name));
  }
  writer.commit();
}

}  // namespace dai
