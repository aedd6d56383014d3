// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/fashion_mnist.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>
#include <zlib.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "common/errors.h"

namespace dai::intro {
namespace {

namespace fs = std::filesystem;

std::string u32(std::uint32_t value) {
  return {static_cast<char>(value >> 24), static_cast<char>(value >> 16),
          static_cast<char>(value >> 8), static_cast<char>(value)};
}

std::string gzip(const std::string& bytes) {
  z_stream stream{};
  deflateInit2(&stream, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY);
  std::string out(deflateBound(&stream, bytes.size()), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
  stream.avail_in = bytes.size();
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = out.size();
  deflate(&stream, Z_FINISH);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

// A folder with three good pictures, which each test then spoils.
class FashionMnistTest : public testing::Test {
 protected:
  FashionMnistTest() {
    dir_ = fs::temp_directory_path() /
           ("fashion_mnist_test." + std::to_string(getpid()));
    fs::create_directories(dir_);
    pixels_.resize(3 * kImagePixels);
    for (std::size_t i = 0; i < pixels_.size(); ++i) pixels_[i] = i % 251;
    write_images(images_header() + pixels_);
    write_labels(u32(0x801) + u32(3) + std::string("\x09\x00\x05", 3));
  }
  ~FashionMnistTest() override { fs::remove_all(dir_); }

  static std::string images_header() {
    return u32(0x803) + u32(3) + u32(28) + u32(28);
  }
  void write(const std::string& name, const std::string& bytes) {
    std::ofstream(dir_ / name, std::ios::binary) << bytes;
  }
  void write_images(const std::string& idx) { write(kImages, gzip(idx)); }
  void write_labels(const std::string& idx) { write(kLabels, gzip(idx)); }

  // The error must be one line, name the file and say what to do.
  void expect_refused(const std::string& file, const std::string& why) {
    try {
      load_fashion_mnist(dir_.string(), Split::kTrain);
      FAIL() << "accepted, expected: " << why;
    } catch (const UsageError& error) {
      const std::string line = error.what();
      EXPECT_THAT(line, testing::HasSubstr((dir_ / file).string()));
      EXPECT_THAT(line, testing::HasSubstr(why));
      EXPECT_THAT(line, testing::HasSubstr("dataset-fashion-mnist"));
      EXPECT_THAT(line, testing::HasSubstr("name its folder"));
      EXPECT_EQ(line.find('\n'), line.npos);
    }
  }

  static constexpr char kImages[] = "train-images-idx3-ubyte.gz";
  static constexpr char kLabels[] = "train-labels-idx1-ubyte.gz";
  fs::path dir_;
  std::string pixels_;
};

TEST_F(FashionMnistTest, ReadsPicturesAndLabels) {
  const auto data = load_fashion_mnist(dir_.string(), Split::kTrain);
  EXPECT_EQ(data.count, 3);
  EXPECT_THAT(data.labels, testing::ElementsAre(9, 0, 5));
  EXPECT_EQ(data.images.size(), pixels_.size());
  EXPECT_EQ(data.image(2)[783], (3 * 784 - 1) % 251);
}

TEST_F(FashionMnistTest, SplitsAreSeparateFiles) {
  EXPECT_THROW(load_fashion_mnist(dir_.string(), Split::kTest), UsageError);
}

TEST_F(FashionMnistTest, RefusesMissingFiles) {
  fs::remove(dir_ / kLabels);
  expect_refused(kLabels, "No such file");
  fs::remove(dir_ / kImages);
  expect_refused(kImages, "No such file");
  fs::create_directory(dir_ / kImages);
  expect_refused(kImages, "Is a directory");
}

TEST_F(FashionMnistTest, RefusesTruncatedFiles) {
  const std::string whole = gzip(images_header() + pixels_);
  for (const std::size_t keep : {whole.size() - 1, whole.size() / 2}) {
    write(kImages, whole.substr(0, keep));
    expect_refused(kImages, "truncated");
  }
  write(kImages, "");
  expect_refused(kImages, "truncated, 4 bytes are missing");
  write_images(images_header() + pixels_.substr(1));
  expect_refused(kImages, "truncated, 1 bytes are missing");
}

TEST_F(FashionMnistTest, RefusesDamagedBytes) {
  std::string bytes = gzip(images_header() + pixels_);
  bytes[bytes.size() - 6] ^= 1;  // in the checksum
  write(kImages, bytes);
  expect_refused(kImages, "damaged gzip data (incorrect data check)");
}

TEST_F(FashionMnistTest, RefusesForeignFiles) {
  write(kImages, "This is a text and no pictures at all.");
  expect_refused(kImages, "not a gzip file");
  write_images(u32(0x801) + u32(3) + pixels_);
  expect_refused(kImages, "magic 0x801, expected 0x803");
  write_images(u32(0x803) + u32(3) + u32(32) + u32(28) + pixels_);
  expect_refused(kImages, "32 x 28, expected 28 x 28");
  write_images(u32(0x803) + u32(0xffffffff) + u32(28) + u32(28) + pixels_);
  expect_refused(kImages, "announces 4294967295 pictures");
  write_images(images_header() + pixels_ + "x");
  expect_refused(kImages, "more data than its header announces");
}

TEST_F(FashionMnistTest, RefusesLabelsThatDoNotFit) {
  write_labels(u32(0x801) + u32(2) + std::string("\x09\x00", 2));
  expect_refused(kLabels, "2 labels for 3 pictures");
  write_labels(u32(0x801) + u32(3) + std::string("\x09\x0a\x05", 3));
  expect_refused(kLabels, "label 10 of sample 1, expected 0 to 9");
  write_labels(u32(0x801) + u32(3) + std::string("\x09\x01\x05\x05", 4));
  expect_refused(kLabels, "more data than its header announces");
}

}  // namespace
}  // namespace dai::intro
