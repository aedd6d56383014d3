// SPDX-License-Identifier: Apache-2.0
#pragma once

// Bytes out of a file or a named pipe, read as they are needed and not before:
// what a job waits for here is what its input costs.
//
//   ByteStream stream("feed.{rank}", rank, ranks, /*timeout_s=*/60);
//   std::vector<unsigned char> record(520);
//   stream.read(record);          // blocks until all of them are there
//
// "{rank}" in the path becomes the rank's number, so that each rank has a pipe
// of its own. Of a regular file rank r of n begins at r / n of its length, and
// goes on at the beginning when it ends. A pipe cannot: its end is an error.
//
// Throws UsageError: no such path, neither file nor pipe, an empty file.
// std::runtime_error: no byte for `timeout_s`, a writer that ended.

#include <cstdint>
#include <span>
#include <string>

namespace dai::intro {

class ByteStream {
 public:
  ByteStream(const std::string& path, int rank, int ranks,
             std::int64_t timeout_s);
  ~ByteStream();
  ByteStream(const ByteStream&) = delete;
  ByteStream& operator=(const ByteStream&) = delete;

  void read(std::span<unsigned char> bytes);
  std::int64_t bytes_read() const { return bytes_read_; }

 private:
  void wait_for_data() const;

  std::string path_;
  std::int64_t timeout_s_;
  int fd_ = -1;
  bool regular_ = false;
  std::int64_t bytes_read_ = 0;
};

}  // namespace dai::intro
