// SPDX-License-Identifier: Apache-2.0
#pragma once

// GGUF files written plainly, for tests: whole ones, and such as no writer
// would make.
//
//   GgufWriter file;
//   file.key("general.architecture").text("llama");
//   file.tensor("w", {4, 2}, 0, bytes);
//   write_file_atomically(path, file.bytes());

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

namespace dai::paged {

// Numbers and strings as the format has them.
class GgufBytes {
 public:
  template <class T>
  GgufBytes& number(T value) {
    char bytes[sizeof value];
    std::memcpy(bytes, &value, sizeof value);
    text_.append(bytes, sizeof value);
    return *this;
  }
  GgufBytes& string(std::string_view text) {
    number(std::uint64_t{text.size()});
    text_ += text;
    return *this;
  }
  GgufBytes& raw(std::string_view bytes) {
    text_ += bytes;
    return *this;
  }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

class GgufWriter {
 public:
  GgufWriter& text(std::string_view key, std::string_view value) {
    begin(key, 8).string(value);
    return *this;
  }
  GgufWriter& u32(std::string_view key, std::uint32_t value) {
    begin(key, 4).number(value);
    return *this;
  }
  GgufWriter& u64(std::string_view key, std::uint64_t value) {
    begin(key, 10).number(value);
    return *this;
  }
  GgufWriter& f32(std::string_view key, float value) {
    begin(key, 6).number(value);
    return *this;
  }
  GgufWriter& flag(std::string_view key, bool value) {
    begin(key, 7).number(static_cast<std::uint8_t>(value));
    return *this;
  }
  GgufWriter& texts(std::string_view key,
                    const std::vector<std::string>& values) {
    begin(key, 9).number(std::uint32_t{8}).number(std::uint64_t{values.size()});
    for (const std::string& value : values) values_.string(value);
    return *this;
  }
  GgufWriter& i32s(std::string_view key,
                   const std::vector<std::int32_t>& values) {
    begin(key, 9).number(std::uint32_t{5}).number(std::uint64_t{values.size()});
    for (const std::int32_t value : values) values_.number(value);
    return *this;
  }
  // Any value at all, counted as one key.
  GgufBytes& begin(std::string_view key, std::uint32_t type) {
    ++keys;
    return values_.string(key).number(type);
  }

  GgufWriter& tensor(std::string_view name, std::vector<std::uint64_t> dims,
                     std::uint32_t type, std::string_view data) {
    data_.resize((data_.size() + alignment - 1) / alignment * alignment);
    tensor_at(name, dims, type, data_.size());
    data_ += data;
    return *this;
  }
  // Only its entry.
  void tensor_at(std::string_view name, const std::vector<std::uint64_t>& dims,
                 std::uint32_t type, std::uint64_t offset) {
    ++tensors;
    infos_.string(name).number(static_cast<std::uint32_t>(dims.size()));
    for (const std::uint64_t dim : dims) infos_.number(dim);
    infos_.number(type).number(offset);
  }

  std::string bytes() const {
    GgufBytes head;
    head.raw("GGUF").number(version).number(tensors).number(keys);
    std::string file = head.text() + values_.text() + infos_.text();
    file.resize((file.size() + alignment - 1) / alignment * alignment);
    return file + data_;
  }

  std::uint32_t version = 3;
  std::uint64_t tensors = 0, keys = 0;
  std::size_t alignment = 32;

 private:
  GgufBytes values_, infos_;
  std::string data_;
};

}  // namespace dai::paged
