// SPDX-License-Identifier: Apache-2.0
#pragma once

// A gzip file, read strictly: a truncated, damaged or plain file is an error
// that names it, and its checksum is compared. (zlib's own gzread() hands out
// plain files as they are and returns 0, as if all were well, for a file cut
// within its checksum.)
//
//   GzipReader file("/usr/share/dictd/gcide.dict.dz",
//                   "install the package dict-gcide or pass --text FILE");
//   std::string text = file.read_rest(/*most=*/1 << 30);
//
// Every error is a UsageError: "cannot use PATH: what is wrong; HINT".

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

struct gzFile_s;

namespace dai::intro {

class GzipReader {
 public:
  GzipReader(std::string path, std::string hint);

  // Exactly so many bytes.
  void read(std::uint8_t* to, std::size_t bytes);
  // All that is left, refused above `most` bytes: a small file can unpack into
  // more than there is memory.
  std::string read_rest(std::size_t most);
  void expect_end();

  [[noreturn]] void fail(const std::string& why) const;

 private:
  std::size_t checked_read(void* to, std::size_t bytes);
  void refuse_plain_file() const;

  std::string path_;
  std::string hint_;
  std::unique_ptr<gzFile_s, int (*)(gzFile_s*)> file_;
};

}  // namespace dai::intro
