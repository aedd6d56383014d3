// SPDX-License-Identifier: Apache-2.0
#pragma once

// Fashion-MNIST: 60,000 training and 10,000 test pictures of clothes, 28 x 28
// grey pixels, ten classes (Xiao, Rasul, Vollgraf, 2017). The Debian package
// dataset-fashion-mnist installs it; the format is MNIST's "IDX" inside gzip:
// big-endian magic (0x803 pictures, 0x801 labels), one int a dimension, bytes.
//
// Promises: everything is checked before it is returned: magic, dimensions,
// gzip checksum, nothing missing, nothing left over, as many labels as
// pictures, each label a class. Anything else throws UsageError, one line that
// names the file and what to do about it.
//
//   FashionMnist train = load_fashion_mnist(kFashionMnistDir, Split::kTrain);
//   std::uint8_t top_left = train.image(42)[0];
//
// Inflating the 47 MB of training pictures takes about 0.2 s.

#include <cstdint>
#include <string>
#include <vector>

namespace dai::intro {

inline constexpr char kFashionMnistDir[] = "/usr/share/datasets/fashion-mnist";
inline constexpr std::int64_t kImageSide = 28;
inline constexpr std::int64_t kImagePixels = kImageSide * kImageSide;
inline constexpr std::int64_t kClasses = 10;

enum class Split { kTrain, kTest };

struct FashionMnist {
  std::int64_t count = 0;
  std::vector<std::uint8_t> images;  // [count, 28, 28]
  std::vector<std::uint8_t> labels;  // [count], each below kClasses

  const std::uint8_t* image(std::int64_t i) const {
    return images.data() + i * kImagePixels;
  }
};

FashionMnist load_fashion_mnist(const std::string& dir, Split split);

}  // namespace dai::intro
