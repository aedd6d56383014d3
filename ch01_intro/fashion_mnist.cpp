// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/fashion_mnist.h"

#include <fmt/format.h>

#include <algorithm>

#include "ch01_intro/gzip_reader.h"

namespace dai::intro {
namespace {

constexpr std::uint32_t kImagesMagic = 0x803;  // bytes, three dimensions
constexpr std::uint32_t kLabelsMagic = 0x801;  // bytes, one dimension

// A header that promises more is broken, not big: without this bound a foreign
// file could make us allocate terabytes before its first byte is read.
constexpr std::uint32_t kMostSamples = 1'000'000;

GzipReader open_idx(const std::string& path) {
  return GzipReader(
      path, "install the package dataset-fashion-mnist or name its folder");
}

std::uint32_t read_u32(GzipReader& file) {
  std::uint8_t b[4];
  file.read(b, sizeof b);
  return std::uint32_t{b[0]} << 24 | b[1] << 16 | b[2] << 8 | b[3];
}

std::int64_t read_header(GzipReader& file, std::uint32_t magic,
                         const char* what) {
  const std::uint32_t found = read_u32(file);
  if (found != magic) {
    file.fail(fmt::format("not an IDX file of {} (magic {:#x}, expected {:#x})",
                          what, found, magic));
  }
  const std::uint32_t count = read_u32(file);
  if (count == 0 || count > kMostSamples) {
    file.fail(fmt::format("it announces {} {}", count, what));
  }
  return count;
}

}  // namespace

FashionMnist load_fashion_mnist(const std::string& dir, Split split) {
  const std::string stem = dir + (split == Split::kTrain ? "/train" : "/t10k");
  FashionMnist data;

  GzipReader images = open_idx(stem + "-images-idx3-ubyte.gz");
  data.count = read_header(images, kImagesMagic, "pictures");
  const std::uint32_t height = read_u32(images);
  const std::uint32_t width = read_u32(images);
  if (height != kImageSide || width != kImageSide) {
    images.fail(fmt::format("its pictures are {} x {}, expected 28 x 28",
                            height, width));
  }
  GzipReader labels = open_idx(stem + "-labels-idx1-ubyte.gz");
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
