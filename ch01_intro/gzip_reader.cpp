// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/gzip_reader.h"

#include <fmt/format.h>
#include <zlib.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string_view>
#include <utility>

#include "common/errors.h"

namespace dai::intro {

GzipReader::GzipReader(std::string path, std::string hint)
    : path_(std::move(path)),
      hint_(std::move(hint)),
      file_(gzopen(path_.c_str(), "rb"), &gzclose) {
  if (!file_) fail(std::strerror(errno));
  gzbuffer(file_.get(), 1 << 18);
}

void GzipReader::fail(const std::string& why) const {
  throw UsageError(fmt::format("cannot use {}: {}; {}", path_, why, hint_));
}

void GzipReader::read(std::uint8_t* to, std::size_t bytes) {
  std::size_t done = 0;
  while (done < bytes) {
    const std::size_t got = checked_read(to + done, bytes - done);
    if (got == 0) {
      fail(fmt::format("truncated, {} bytes are missing", bytes - done));
    }
    done += got;
  }
  refuse_plain_file();
}

std::string GzipReader::read_rest(std::size_t most) {
  constexpr std::size_t kPiece = 1 << 20;
  std::string text;
  for (;;) {
    const std::size_t before = text.size();
    text.resize(before + kPiece);
    const std::size_t got = checked_read(text.data() + before, kPiece);
    text.resize(before + got);
    if (text.size() > most) {
      fail(fmt::format("it unpacks to more than {} bytes", most));
    }
    if (got == 0) break;
  }
  refuse_plain_file();
  return text;
}

// Reading to the end is also what makes zlib compare the checksum.
void GzipReader::expect_end() {
  std::uint8_t extra;
  if (checked_read(&extra, 1) > 0) fail("more data than its header announces");
}

std::size_t GzipReader::checked_read(void* to, std::size_t bytes) {
  const auto chunk =
      static_cast<unsigned>(std::min<std::size_t>(bytes, 1u << 30));
  const int got = gzread(file_.get(), to, chunk);
  int code = Z_OK;
  const char* text = gzerror(file_.get(), &code);
  // Not `got < 0`: see the header.
  if (code == Z_OK || code == Z_STREAM_END) return got;
  if (code == Z_BUF_ERROR) fail("truncated in the middle of its gzip data");
  if (code == Z_ERRNO) fail(std::strerror(errno));
  // zlib puts the path before its own words; ours says it already.
  const std::string_view message = text;
  const auto colon = message.rfind(": ");
  fail(fmt::format("damaged gzip data ({})", colon == message.npos
                                                 ? message
                                                 : message.substr(colon + 2)));
}

void GzipReader::refuse_plain_file() const {
  if (gzdirect(file_.get())) fail("not a gzip file");
}

}  // namespace dai::intro
