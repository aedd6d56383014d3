// SPDX-License-Identifier: Apache-2.0
#include "ch06_paged_inference/model_file/gguf.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <limits>
#include <utility>

#include "common/strict_json.h"

namespace dai::paged {
namespace {

static_assert(std::endian::native == std::endian::little,
              "GGUF is read where it lies");

constexpr std::size_t kMostNameBytes = 512;
constexpr std::uint64_t kMostAlignment = 1 << 20;

// [GgufType]; 0 where the size is not fixed.
constexpr std::array<std::pair<std::string_view, std::size_t>, 13> kTypes{{
    {"u8", 1},
    {"i8", 1},
    {"u16", 2},
    {"i16", 2},
    {"u32", 4},
    {"i32", 4},
    {"f32", 4},
    {"bool", 1},
    {"string", 0},
    {"array", 0},
    {"u64", 8},
    {"i64", 8},
    {"f64", 8},
}};

std::string_view type_name(GgufType type) {
  return kTypes.at(static_cast<std::size_t>(type)).first;
}
std::size_t type_bytes(GgufType type) {
  return kTypes.at(static_cast<std::size_t>(type)).second;
}

template <class T>
T load(const std::byte* at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

std::string_view as_text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// An integer of any width; nothing where the type has none, or where a u64
// does not fit.
std::optional<std::int64_t> integer_at(GgufType type, const std::byte* at) {
  switch (type) {
    case GgufType::kU8:
      return load<std::uint8_t>(at);
    case GgufType::kI8:
      return load<std::int8_t>(at);
    case GgufType::kU16:
      return load<std::uint16_t>(at);
    case GgufType::kI16:
      return load<std::int16_t>(at);
    case GgufType::kU32:
      return load<std::uint32_t>(at);
    case GgufType::kI32:
      return load<std::int32_t>(at);
    case GgufType::kI64:
      return load<std::int64_t>(at);
    case GgufType::kU64: {
      const auto value = load<std::uint64_t>(at);
      if (!std::in_range<std::int64_t>(value)) return std::nullopt;
      return static_cast<std::int64_t>(value);
    }
    default:
      return std::nullopt;
  }
}

}  // namespace

// Reads forward through the bytes; whatever it is asked for, it has checked
// that so much is left.
class GgufParser {
 public:
  GgufParser(std::span<const std::byte> bytes, GgufFile& file)
      : bytes_(bytes), file_(file), where_(file.where_) {}

  void parse() {
    if (bytes_.size() < 4 || as_text(bytes_.first(4)) != "GGUF") {
      refuse(where_, "is no GGUF file (it does not begin with \"GGUF\")");
    }
    take(4);
    const auto version = number<std::uint32_t>("the version");
    if (version != 2 && version != 3) {
      refuse(where_, "is GGUF version {}{}, 2 and 3 are supported",
             version % 65536 == 0 ? version >> 24 : version,
             version % 65536 == 0 ? " of a big-endian machine" : "");
    }
    const auto tensors = number<std::uint64_t>("the number of tensors");
    const auto values = number<std::uint64_t>("the number of keys");
    // A key takes at least 8 + 4 + 1 bytes, a tensor 8 + 4 + 8 + 4 + 8.
    want_room(values, 13, "keys");
    for (std::uint64_t i = 0; i < values; ++i) take_value();
    want_room(tensors, 32, "tensors");
    for (std::uint64_t i = 0; i < tensors; ++i) take_tensor();
    place_tensors();
  }

 private:
  struct Placed {
    std::uint64_t begin = 0, bytes = 0;  // in the data
    std::string_view name;
    GgufTensor* tensor = nullptr;
  };

  std::span<const std::byte> take(std::uint64_t n) {
    if (n > bytes_.size() - at_) {
      refuse(where_, "ends at byte {} inside {}: it is cut short or damaged",
             bytes_.size(), place_);
    }
    const auto taken = bytes_.subspan(at_, n);
    at_ += n;
    return taken;
  }

  template <class T>
  T number(std::string_view place) {
    place_ = place;
    return load<T>(take(sizeof(T)).data());
  }

  std::string_view string(std::string_view place) {
    const auto length = number<std::uint64_t>(place);
    return as_text(take(length));
  }

  void want_room(std::uint64_t count, std::uint64_t each,
                 std::string_view what) const {
    if (count > (bytes_.size() - at_) / each) {
      refuse(where_, "claims {} {}, which do not fit into the {} bytes left",
             count, what, bytes_.size() - at_);
    }
  }

  std::string_view name(std::string_view what) {
    const std::string_view name = string(what);
    if (name.empty() || name.size() > kMostNameBytes) {
      refuse(where_, "{} is {} bytes long, 1 to {} are accepted", what,
             name.size(), kMostNameBytes);
    }
    return name;
  }

  GgufType type(std::string_view key) {
    const auto type = number<std::uint32_t>("the type of a value");
    if (type >= kTypes.size()) {
      refuse(where_, "{} has a value of type {}, 0 to 12 are known",
             printable(key), type);
    }
    return static_cast<GgufType>(type);
  }

  void take_value() {
    const std::string_view key = name("a key");
    GgufValue value;
    value.type = type(key);
    if (value.type == GgufType::kArray) {
      value.array = true;
      value.type = type(key);
      if (value.type == GgufType::kArray) {
        refuse(where_, "{} is an array of arrays, which is not supported",
               printable(key));
      }
      value.count = number<std::uint64_t>("the length of an array");
    }
    value.bytes = elements(value, key);
    if (!file_.values_.emplace(std::string(key), value).second) {
      refuse(where_, "the key {} occurs twice", printable(key));
    }
  }

  std::span<const std::byte> elements(const GgufValue& value,
                                      std::string_view key) {
    const std::size_t fixed = type_bytes(value.type);
    want_room(value.count, fixed == 0 ? 8 : fixed,
              fmt::format("elements of {}", printable(key)));
    place_ = "a value";
    if (fixed != 0) return take(value.count * fixed);
    const std::size_t begin = at_;
    for (std::uint64_t i = 0; i < value.count; ++i) string("a string");
    return bytes_.subspan(begin, at_ - begin);
  }

  void take_tensor() {
    const std::string_view tensor_name = name("a tensor's name");
    const std::string shown = fmt::format("tensor {}", printable(tensor_name));
    GgufTensor tensor;
    const auto dims = number<std::uint32_t>("a tensor's dimensions");
    if (dims < 1 || dims > 4) {
      refuse(where_, "{} has {} dimensions, 1 to 4 are accepted", shown, dims);
    }
    std::uint64_t values = 1;
    for (std::uint32_t i = 0; i < dims; ++i) {
      const auto dim = number<std::uint64_t>("a tensor's dimensions");
      // No tensor has more values than its file has bits.
      if (dim == 0 || dim > bytes_.size() * 8 / values) {
        refuse(where_, "{} has a dimension of {}: more than the file holds",
               shown, dim);
      }
      values *= dim;
      tensor.dims.push_back(static_cast<std::int64_t>(dim));
    }
    const auto type = number<std::uint32_t>("a tensor's type");
    const auto format = format_of_ggml_type(type);
    if (!format) {
      const std::string_view known = ggml_type_name(type);
      refuse(where_,
             "{} is stored as {}; supported are F32, F16, BF16, Q4_0, Q4_1, "
             "Q8_0, Q4_K, Q5_K and Q6_K",
             shown, known.empty() ? fmt::format("type {}", type) : known);
    }
    tensor.format = *format;
    const std::size_t block = block_values(*format);
    if (tensor.dims[0] % static_cast<std::int64_t>(block) != 0) {
      refuse(where_, "{} has rows of {} values, {} wants a multiple of {}",
             shown, tensor.dims[0], format_name(*format), block);
    }
    const auto offset = number<std::uint64_t>("a tensor's offset");
    const auto [at, added] =
        file_.tensors_.emplace(std::string(tensor_name), std::move(tensor));
    if (!added) refuse(where_, "{} occurs twice", shown);
    placed_.push_back({offset, values / block * block_bytes(*format), at->first,
                       &at->second});
  }

  std::uint64_t alignment() const {
    if (!file_.has("general.alignment")) return 32;
    const std::int64_t alignment = file_.count("general.alignment");
    if (alignment < 1 || std::cmp_greater(alignment, kMostAlignment) ||
        !std::has_single_bit(static_cast<std::uint64_t>(alignment))) {
      refuse(where_, "general.alignment is {}, a power of two is expected",
             alignment);
    }
    return static_cast<std::uint64_t>(alignment);
  }

  // The data begins at the next aligned byte, and so does each tensor in it.
  void place_tensors() {
    const std::uint64_t alignment = this->alignment();
    const std::uint64_t begin = std::min<std::uint64_t>(
        (at_ + alignment - 1) / alignment * alignment, bytes_.size());
    const auto data = bytes_.subspan(begin);
    std::sort(
        placed_.begin(), placed_.end(),
        [](const Placed& a, const Placed& b) { return a.begin < b.begin; });
    std::uint64_t end = 0;
    for (const Placed& placed : placed_) {
      const std::string shown =
          fmt::format("tensor {}", printable(placed.name));
      if (placed.begin % alignment != 0) {
        refuse(where_, "{} begins at {}, which is not aligned to {}", shown,
               placed.begin, alignment);
      }
      if (placed.begin < end) {
        refuse(where_, "{} overlaps the one before it", shown);
      }
      if (placed.begin > data.size() ||
          placed.bytes > data.size() - placed.begin) {
        refuse(where_,
               "{} needs bytes {} to {} of the data, which has {}: the file is "
               "cut short or damaged",
               shown, placed.begin, placed.begin + placed.bytes, data.size());
      }
      placed.tensor->bytes = data.subspan(placed.begin, placed.bytes);
      end = placed.begin + placed.bytes;
    }
  }

  std::span<const std::byte> bytes_;
  std::size_t at_ = 0;
  std::string_view place_ = "the header";
  GgufFile& file_;
  const std::string& where_;
  std::vector<Placed> placed_;
};

GgufFile GgufFile::parse(std::span<const std::byte> bytes, std::string where) {
  GgufFile file;
  file.where_ = std::move(where);
  GgufParser(bytes, file).parse();
  return file;
}

GgufFile GgufFile::open(const std::filesystem::path& path) {
  MappedFile mapped(path);
  GgufFile file = parse(mapped.bytes(), fmt::format("'{}'", path.string()));
  file.file_.emplace(std::move(mapped));
  return file;
}

bool GgufFile::has(std::string_view key) const {
  return values_.contains(key);
}

const GgufValue& GgufFile::value(std::string_view key, bool array) const {
  const auto found = values_.find(key);
  if (found == values_.end()) refuse(where_, "has no key {}", key);
  if (found->second.array != array) {
    refuse(where_, "{} is {} array, {} is expected", key, array ? "no" : "an",
           array ? "one" : "a single value");
  }
  return found->second;
}

std::string_view GgufFile::text(std::string_view key) const {
  const GgufValue& v = value(key, false);
  if (v.type != GgufType::kString) {
    refuse(where_, "{} is a {}, a string is expected", key, type_name(v.type));
  }
  return as_text(v.bytes.subspan(8));
}

std::int64_t GgufFile::count(std::string_view key) const {
  const GgufValue& v = value(key, false);
  const auto integer = integer_at(v.type, v.bytes.data());
  if (!integer || *integer < 0) {
    refuse(where_, "{} is {}, a count is expected", key,
           integer ? fmt::format("{}", *integer)
                   : fmt::format("a {}", type_name(v.type)));
  }
  return *integer;
}

double GgufFile::number(std::string_view key) const {
  const GgufValue& v = value(key, false);
  if (v.type == GgufType::kF32) return load<float>(v.bytes.data());
  if (v.type == GgufType::kF64) return load<double>(v.bytes.data());
  const auto integer = integer_at(v.type, v.bytes.data());
  if (!integer) {
    refuse(where_, "{} is a {}, a number is expected", key, type_name(v.type));
  }
  return static_cast<double>(*integer);
}

bool GgufFile::flag(std::string_view key) const {
  const GgufValue& v = value(key, false);
  if (v.type != GgufType::kBool) {
    refuse(where_, "{} is a {}, a bool is expected", key, type_name(v.type));
  }
  return v.bytes[0] != std::byte{0};
}

std::vector<std::string_view> GgufFile::texts(std::string_view key) const {
  const GgufValue& v = value(key, true);
  if (v.type != GgufType::kString) {
    refuse(where_, "{} is an array of {}, one of strings is expected", key,
           type_name(v.type));
  }
  std::vector<std::string_view> list;
  list.reserve(v.count);
  for (std::size_t at = 0; at < v.bytes.size();) {
    const auto length = load<std::uint64_t>(v.bytes.data() + at);
    list.push_back(as_text(v.bytes.subspan(at + 8, length)));
    at += 8 + length;
  }
  return list;
}

std::vector<std::int64_t> GgufFile::integers(std::string_view key) const {
  const GgufValue& v = value(key, true);
  std::vector<std::int64_t> list;
  list.reserve(v.count);
  const std::size_t bytes = type_bytes(v.type);
  for (std::uint64_t i = 0; i < v.count; ++i) {
    const auto integer = bytes == 0
                             ? std::nullopt
                             : integer_at(v.type, v.bytes.data() + i * bytes);
    if (!integer) {
      refuse(where_, "{} is an array of {}, one of integers is expected", key,
             type_name(v.type));
    }
    list.push_back(*integer);
  }
  return list;
}

const GgufTensor* GgufFile::find(std::string_view name) const {
  const auto found = tensors_.find(name);
  return found == tensors_.end() ? nullptr : &found->second;
}

const GgufTensor& GgufFile::at(std::string_view name) const {
  const GgufTensor* tensor = find(name);
  if (tensor == nullptr) refuse(where_, "has no tensor {}", printable(name));
  return *tensor;
}

}  // namespace dai::paged
