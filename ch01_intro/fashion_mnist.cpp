// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/fashion_mnist.h"

#include <fmt/format.h>
#include <zlib.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>

#include "common/errors.h"

namespace dai::intro {
namespace {

constexpr std::uint32_t kImagesMagic = 0x803;  // bytes, three dimensions
constexpr std::uint32_t kLabelsMagic = 0x801;  // bytes, one dimension

// A header that promises more is broken, not big: without this bound a foreign
// file could make us allocate terabytes before its first byte is read.
constexpr std::uint32_t kMostSamples = 1'000'000;

class IdxFile {
 public:
  explicit IdxFile(std::string path)
      : path_(std::move(path)), file_(gzopen(path_.c_str(), "rb"), &gzclose) {
    if (!file_) fail(std::strerror(errno));
    gzbuffer(file_.get(), 1 << 18);
  }

  [[noreturn]] void fail(const std::string& why) const {
    throw UsageError(
        fmt::format("cannot use {}: {}; install the package "
                    "dataset-fashion-mnist or pass --data DIR",
                    path_, why));
  }

  void read(std::uint8_t* to, std::size_t bytes) {
    std::size_t done = 0;
    while (done < bytes) {
      const unsigned chunk = std::min<std::size_t>(bytes - done, 1u << 30);
      const int got = checked_read(to + done, chunk);
      if (got == 0) {
        fail(fmt::format("truncated, {} bytes are missing", bytes - done));
      }
      done += got;
    }
    // zlib reads plain files too, and would hand us any file's bytes.
    if (gzdirect(file_.get())) fail("not a gzip file");
  }

  std::uint32_t read_u32() {
    std::uint8_t b[4];
    read(b, sizeof b);
    return std::uint32_t{b[0]} << 24 | b[1] << 16 | b[2] << 8 | b[3];
  }

  // Reading to the end is also what makes zlib compare the checksum.
  void expect_end() {
    std::uint8_t extra;
    if (checked_read(&extra, 1) > 0) {
      fail("more data than its header announces");
    }
  }

 private:
  int checked_read(std::uint8_t* to, unsigned bytes) {
    const int got = gzread(file_.get(), to, bytes);
    int code = Z_OK;
    const char* text = gzerror(file_.get(), &code);
    // Not `got < 0`: a file cut within its checksum returns 0, as if all were
    // well, and tells the truth in the error code alone.
    if (code == Z_OK || code == Z_STREAM_END) return got;
    if (code == Z_BUF_ERROR) fail("truncated in the middle of its gzip data");
    if (code == Z_ERRNO) fail(std::strerror(errno));
    // zlib puts the path before its own words; ours says it already.
    const std::string_view message = text;
    const auto colon = message.rfind(": ");
    fail(fmt::format(
        "damaged gzip data ({})",
        colon == message.npos ? message : message.substr(colon + 2)));
  }

  std::string path_;
  std::unique_ptr<gzFile_s, int (*)(gzFile)> file_;
};

std::int64_t read_header(IdxFile& file, std::uint32_t magic, const char* what) {
  const std::uint32_t found = file.read_u32();
  if (found != magic) {
    file.fail(fmt::format("not an IDX file of {} (magic {:#x}, expected {:#x})",
                          what, found, magic));
  }
  const std::uint32_t count = file.read_u32();
  if (count == 0 || count > kMostSamples) {
    file.fail(fmt::format("it announces {} {}", count, what));
  }
  return count;
}

}  // namespace

FashionMnist load_fashion_mnist(const std::string& dir, Split split) {
  const std::string stem = dir + (split == Split::kTrain ? "/train" : "/t10k");
  FashionMnist data;

  IdxFile images(stem + "-images-idx3-ubyte.gz");
  data.count = read_header(images, kImagesMagic, "pictures");
  const std::uint32_t height = images.read_u32();
  const std::uint32_t width = images.read_u32();
  if (height != kImageSide || width != kImageSide) {
    images.fail(fmt::format("its pictures are {} x {}, expected 28 x 28",
                            height, width));
  }
  IdxFile labels(stem + "-labels-idx1-ubyte.gz");
  const std::int64_t label_count = read_header(labels, kLabelsMagic, "labels");
  if (label_count != data.count) {
    labels.fail(fmt::format("it has {} labels for {} pictures", label_count,
                            data.count));
  }

  data.labels.resize(data.count);
  labels.read(data.labels.data(), data.labels.size());
  labels.expect_end();
  const auto highest = std::max_element(data.labels.begin(), data.labels.end());
  if (*highest >= kClasses) {
    labels.fail(fmt::format("label {} of sample {}, expected 0 to {}", *highest,
                            highest - data.labels.begin(), kClasses - 1));
  }
  data.images.resize(data.count * kImagePixels);
  images.read(data.images.data(), data.images.size());
  images.expect_end();
  return data;
}

}  // namespace dai::intro
