// SPDX-License-Identifier: Apache-2.0
#pragma once

// GGUF, the one-file form of models for llama.cpp and its relatives: typed
// key-value pairs, then a list of tensors, then their data, all little-endian.
// Format: github.com/ggml-org/ggml, docs/gguf.md, versions 2 and 3.
//
//   const GgufFile file = GgufFile::open("model.gguf");
//   file.text("general.architecture");                       // "llama"
//   file.count("llama.block_count");                         // 30
//   const GgufTensor& w = file.at("blk.0.attn_q.weight");    // dequantize(...)
//
// A file is hostile until proved otherwise: every length is held against what
// is left of the file before anything is read or allocated, so a file of a
// kilobyte that claims a billion tensors costs nothing. What is wrong ends in a
// UsageError of one line that names file and place; so does what is not
// supported (a tensor type, arrays inside arrays, big-endian files), by name.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ch06_paged_inference/model_file/block_format.h"
#include "common/file.h"

namespace dai::paged {

enum class GgufType : std::uint32_t {
  kU8,
  kI8,
  kU16,
  kI16,
  kU32,
  kI32,
  kF32,
  kBool,
  kString,
  kArray,
  kU64,
  kI64,
  kF64,
};

// A value as it lies in the file, checked but not unpacked: a vocabulary costs
// nothing until somebody asks for it.
struct GgufValue {
  GgufType type{};  // of the elements, where it is an array
  bool array = false;
  std::uint64_t count = 1;
  std::span<const std::byte> bytes;
};

struct GgufTensor {
  BlockFormat format{};
  // The dimension that is contiguous in the file first, as the file has it: a
  // weight [out, in] is {in, out}. One to four, none of them 0.
  std::vector<std::int64_t> dims;
  std::span<const std::byte> bytes;
};

class GgufFile {
 public:
  static GgufFile open(const std::filesystem::path& path);
  // A file that is already in memory, which outlives the object.
  static GgufFile parse(std::span<const std::byte> file, std::string where);

  bool has(std::string_view key) const;
  // The value of a key, which must be there and of that kind. A count is an
  // integer >= 0 of any width, a number an integer or a float.
  std::string_view text(std::string_view key) const;
  std::int64_t count(std::string_view key) const;
  double number(std::string_view key) const;
  bool flag(std::string_view key) const;
  std::vector<std::string_view> texts(std::string_view key) const;
  std::vector<std::int64_t> integers(std::string_view key) const;

  const GgufTensor* find(std::string_view name) const;  // nullptr: not there
  const GgufTensor& at(std::string_view name) const;    // UsageError
  const std::map<std::string, GgufTensor, std::less<>>& tensors() const {
    return tensors_;
  }
  const std::map<std::string, GgufValue, std::less<>>& values() const {
    return values_;
  }
  const std::string& where() const { return where_; }  // "'model.gguf'"

 private:
  friend class GgufParser;
  const GgufValue& value(std::string_view key, bool array) const;

  std::string where_;
  std::optional<MappedFile> file_;
  std::map<std::string, GgufValue, std::less<>> values_;
  std::map<std::string, GgufTensor, std::less<>> tensors_;
};

}  // namespace dai::paged
