// SPDX-License-Identifier: Apache-2.0
#pragma once

// Whole files, safely: a reader of the final name finds the old content or the
// complete new one, never a half, whatever dies in between.
//
//   write_file_atomically("out/report.json", text);      // all at once
//   AtomicFile file("out/model.safetensors");            // or as a stream
//   file.write(bytes); file.commit();
//
// A path that cannot be right (no such folder or file, a folder instead of a
// file, no permission) throws UsageError; what goes wrong later (disk full,
// quota, I/O error) throws std::system_error. Both name the path.

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

namespace dai {

// Writes to a temporary file in the target's folder; commit() makes it durable
// (fsync), renames it over the target and makes the rename durable. Destroyed
// without commit(), it removes the temporary file and the target is as it was.
// A symbolic link is followed. A target that is no regular file (a pipe,
// /dev/stdout) has no old content to protect and is written in place.
class AtomicFile {
 public:
  explicit AtomicFile(const std::filesystem::path& target);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(std::span<const std::byte> bytes);
  void commit();  // once, after the last write

 private:
  std::filesystem::path target_;
  std::filesystem::path temporary_;  // empty: nothing to rename or remove
  int fd_ = -1;
};

void write_file_atomically(const std::filesystem::path& path,
                           std::span<const std::byte> bytes);
void write_file_atomically(const std::filesystem::path& path,
                           std::string_view text);

// The whole content. Pipes and /proc files work too.
std::string read_file(const std::filesystem::path& path,
                      std::size_t most = std::string::npos);

// Without its end; empty where the file has none or cannot be read, as much
// under /proc and /sys may be.
std::string first_line_of(const std::filesystem::path& path);

// A regular file mapped read-only. The bytes live as long as the object; a file
// that another process truncates meanwhile ends this one with SIGBUS, which is
// why our own writers replace files and never shorten them.
class MappedFile {
 public:
  explicit MappedFile(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;

  std::span<const std::byte> bytes() const { return bytes_; }

 private:
  std::span<const std::byte> bytes_;
};

}  // namespace dai
