// SPDX-License-Identifier: Apache-2.0
#pragma once

// Named tensors in one file: 8 bytes of little-endian header length, a JSON
// header, then the raw data. Nothing in it can execute, and the header alone
// says where each tensor lies, so a rank maps the file and touches only its
// own part. Format: https://github.com/huggingface/safetensors
//
//   save_safetensors("m.safetensors", {{"w", Dtype::F32, {2, 3}, bytes}});
//   const auto file = SafetensorsFile::open("m.safetensors");
//   const TensorView& w = file.at("w");
//
// A file is hostile until proved otherwise: every length and offset is checked
// before it is used, and what is wrong ends in a UsageError that names the
// file. The data itself has no checksum; manifest.h adds one.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/file.h"

namespace dai {

// In the format's own order, which is by size: the writer sorts by it.
// clang-format off
enum class Dtype {
  BOOL, U8, I8, F8_E5M2, F8_E4M3, I16, U16, F16, BF16, I32, U32, F32,
  F64, I64, U64,
};
// clang-format on

std::string_view dtype_name(Dtype dtype);
std::size_t dtype_bytes(Dtype dtype);
// Throws UsageError that starts with `where` and lists the accepted names.
Dtype parse_dtype(std::string_view name, std::string_view where);

using Shape = std::vector<std::int64_t>;  // row-major; {} is a scalar

// Elements and bytes of a tensor. Throw std::invalid_argument for a negative
// dimension and for a product that does not fit 63 bits. Zeros are left out of
// that product, so that strides computed from a checked shape fit as well.
std::int64_t element_count(const Shape& shape);
std::size_t tensor_bytes(Dtype dtype, const Shape& shape);

struct TensorView {
  Dtype dtype{};
  Shape shape;
  // Aligned to the element in files by this writer; in foreign files maybe not.
  std::span<const std::byte> bytes;
};

using Metadata = std::map<std::string, std::string>;

struct SafetensorsIndex {
  std::map<std::string, TensorView, std::less<>> tensors;
  Metadata metadata;
};

// Reads a file that is already in memory; the views point into `file`.
SafetensorsIndex parse_safetensors(std::span<const std::byte> file,
                                   std::string_view where);

class SafetensorsFile {
 public:
  static SafetensorsFile open(const std::filesystem::path& path);

  std::vector<std::string> names() const;               // sorted
  const TensorView* find(std::string_view name) const;  // nullptr: not there
  // Throws UsageError naming the file if the tensor is not there.
  const TensorView& at(std::string_view name) const;
  const Metadata& metadata() const { return index_.metadata; }

 private:
  SafetensorsFile(std::string where, MappedFile file);
  std::string where_;
  MappedFile file_;
  SafetensorsIndex index_;
};

// Writes tensor by tensor, so that a model larger than memory can be gathered
// and written one parameter at a time; the header comes first in the file, so
// all names and shapes are declared up front.
//
// The order in the file is largest element first, then by name, whatever order
// they were declared in: each tensor is then aligned to its element without
// the padding that the format forbids, and equal tensors give equal files, the
// same bytes that the Python library writes. Misuse (a name twice, a wrong
// size, the wrong turn) throws std::invalid_argument.
class SafetensorsWriter {
 public:
  struct Entry {
    std::string name;
    Dtype dtype{};
    Shape shape;
  };
  SafetensorsWriter(const std::filesystem::path& path,
                    std::vector<Entry> entries, const Metadata& metadata = {});

  // The entries in file order: write() wants exactly this sequence.
  const std::vector<Entry>& order() const { return entries_; }
  void write(std::string_view name, std::span<const std::byte> bytes);
  void commit();  // after the last; without it nothing is left on disk

 private:
  std::vector<Entry> entries_;
  std::size_t written_ = 0;
  AtomicFile file_;
};

struct NamedTensor {
  std::string name;
  Dtype dtype{};
  Shape shape;
  std::span<const std::byte> bytes;
};

// All of them at once, in any order.
void save_safetensors(const std::filesystem::path& path,
                      const std::vector<NamedTensor>& tensors,
                      const Metadata& metadata = {});

}  // namespace dai
