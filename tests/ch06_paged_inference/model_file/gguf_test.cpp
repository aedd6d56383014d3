// SPDX-License-Identifier: Apache-2.0
#include "ch06_paged_inference/model_file/gguf.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <random>

#include "common/errors.h"
#include "tests/ch06_paged_inference/support/gguf_writer.h"
#include "tests/common/temp_folder.h"

namespace dai::paged {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

GgufFile parse(const std::string& bytes) {
  return GgufFile::parse(std::as_bytes(std::span(bytes)), "'f'");
}

std::string refusal(const std::string& bytes) {
  return message_of<UsageError>([&] { parse(bytes); });
}

GgufWriter small_file() {
  GgufWriter file;
  file.text("general.architecture", "llama");
  file.u32("n", 30).f32("eps", 1e-5F).flag("yes", true).u64("big", 1 << 20);
  file.texts("words", {"", "to", "be"}).i32s("kinds", {1, -3});
  file.tensor("a", {2, 2}, 0, std::string(16, '\1'));
  file.tensor("b", {32}, 8, std::string(34, '\2'));
  return file;
}

TEST(Gguf, ReadsWhatWasWritten) {
  const std::string bytes = small_file().bytes();
  const GgufFile file = parse(bytes);
  EXPECT_EQ(file.text("general.architecture"), "llama");
  EXPECT_EQ(file.count("n"), 30);
  EXPECT_EQ(file.number("n"), 30);
  EXPECT_EQ(file.number("eps"), 1e-5F);
  EXPECT_TRUE(file.flag("yes"));
  EXPECT_EQ(file.count("big"), 1 << 20);
  EXPECT_THAT(file.texts("words"), ElementsAre("", "to", "be"));
  EXPECT_THAT(file.integers("kinds"), ElementsAre(1, -3));
  EXPECT_THAT(file.at("a").dims, ElementsAre(2, 2));
  EXPECT_EQ(file.at("a").bytes.size(), 16U);
  EXPECT_EQ(file.at("a").bytes[0], std::byte{1});
  EXPECT_EQ(file.at("b").format, BlockFormat::kQ8_0);
  EXPECT_EQ(file.at("b").bytes[33], std::byte{2});
  EXPECT_EQ(file.find("c"), nullptr);
}

class GgufOnDisk : public TempFolder {};

TEST_F(GgufOnDisk, IsMappedAndMayMove) {
  write_file_atomically(folder_ / "m.gguf", small_file().bytes());
  GgufFile file = GgufFile::open(folder_ / "m.gguf");
  const GgufFile moved = std::move(file);
  EXPECT_EQ(moved.text("general.architecture"), "llama");
  EXPECT_EQ(moved.at("b").bytes[33], std::byte{2});
  EXPECT_THAT(moved.where(), HasSubstr("m.gguf'"));
  EXPECT_THAT(
      message_of<UsageError>([&] { GgufFile::open(folder_ / "none.gguf"); }),
      HasSubstr("none.gguf"));
}

TEST(Gguf, WrongKindOfValueIsNamed) {
  const std::string bytes = small_file().bytes();
  const GgufFile file = parse(bytes);
  const auto says = [](auto&& ask) { return message_of<UsageError>(ask); };
  EXPECT_EQ(says([&] { file.text("n"); }),
            "'f': n is a u32, a string is "
            "expected");
  EXPECT_THAT(says([&] { file.count("eps"); }), HasSubstr("a count is"));
  EXPECT_THAT(says([&] { file.flag("n"); }), HasSubstr("a bool is"));
  EXPECT_THAT(says([&] { file.number("words"); }), HasSubstr("an array"));
  EXPECT_THAT(says([&] { file.texts("kinds"); }), HasSubstr("one of strings"));
  EXPECT_THAT(says([&] { file.integers("words"); }), HasSubstr("of integers"));
  EXPECT_THAT(says([&] { file.texts("n"); }), HasSubstr("no array"));
  EXPECT_THAT(says([&] { file.count("m"); }), HasSubstr("has no key m"));
  EXPECT_THAT(says([&] { file.at("m"); }), HasSubstr("has no tensor \"m\""));
}

// Cut anywhere, the file is refused, except where only padding is missing.
TEST(Gguf, CutAtAnyByteIsRefused) {
  const std::string bytes = small_file().bytes();
  for (std::size_t n = 0; n < bytes.size(); ++n) {
    EXPECT_THAT(refusal(bytes.substr(0, n)), StartsWith("'f': ")) << n;
  }
}

// What the damage is does not matter here: it ends in a UsageError or in a
// file whose every value can be asked for (the sanitizers watch).
TEST(Gguf, DamagedFilesDoNoHarm) {
  std::mt19937 random(1234);
  const std::string whole = small_file().bytes();
  int read = 0;
  for (int round = 0; round < 20000; ++round) {
    std::string bytes = whole;
    for (int n = 1 + static_cast<int>(random() % 4); n > 0; --n) {
      bytes[random() % bytes.size()] = static_cast<char>(random());
    }
    try {
      const GgufFile file = parse(bytes);
      for (const auto& [key, value] : file.values()) {
        try {
          if (value.array) {
            file.texts(key);
          } else {
            file.number(key);
          }
        } catch (const UsageError&) {
        }
      }
      for (const auto& [name, tensor] : file.tensors()) {
        std::vector<float> values(tensor.bytes.size() /
                                  block_bytes(tensor.format) *
                                  block_values(tensor.format));
        dequantize(tensor.format, tensor.bytes, values);
      }
      ++read;
    } catch (const UsageError&) {
    }
  }
  EXPECT_GT(read, 1000);
  EXPECT_LT(read, 19000);
}

TEST(Gguf, ForeignFilesAreToldApart) {
  EXPECT_THAT(refusal("not a model"), HasSubstr("is no GGUF file"));
  EXPECT_THAT(refusal(""), HasSubstr("is no GGUF file"));
  GgufWriter file = small_file();
  file.version = 1;
  EXPECT_THAT(refusal(file.bytes()), HasSubstr("GGUF version 1,"));
  file.version = 3U << 24;
  EXPECT_THAT(refusal(file.bytes()), HasSubstr("version 3 of a big-endian"));
  file.version = 2;
  EXPECT_NO_THROW(parse(file.bytes()));
}

// Claims that no file of this size can keep cost nothing.
TEST(Gguf, HugeClaimsAreRefusedBeforeAnythingIsAllocated) {
  constexpr auto kHuge = std::numeric_limits<std::uint64_t>::max() / 2;
  GgufWriter file = small_file();
  file.tensors = kHuge;
  EXPECT_THAT(refusal(file.bytes()), HasSubstr("claims"));
  file = small_file();
  file.keys = kHuge;
  EXPECT_THAT(refusal(file.bytes()), HasSubstr("claims"));
  file = small_file();
  file.begin("array", 9).number(std::uint32_t{8}).number(kHuge);
  EXPECT_THAT(refusal(file.bytes()), HasSubstr("elements of \"array\""));
  file = small_file();
  file.begin("text", 8).number(kHuge);
  EXPECT_THAT(refusal(file.bytes()), HasSubstr("inside"));
  for (const std::uint64_t dim : {kHuge, std::uint64_t{1} << 32}) {
    file = small_file();
    file.tensor_at("c", {dim, dim}, 0, 0);
    EXPECT_THAT(refusal(file.bytes()), HasSubstr("more than the file holds"));
  }
}

TEST(Gguf, WhatIsNotSupportedIsNamed) {
  GgufWriter file = small_file();
  file.tensor_at("c", {256}, 23, 0);
  EXPECT_THAT(refusal(file.bytes()), HasSubstr("\"c\" is stored as IQ4_XS"));
  file = small_file();
  file.tensor_at("c", {256}, 99, 0);
  EXPECT_THAT(refusal(file.bytes()), HasSubstr("stored as type 99"));
  file = small_file();
  file.begin("deep", 9).number(std::uint32_t{9}).number(std::uint64_t{0});
  EXPECT_THAT(refusal(file.bytes()), HasSubstr("array of arrays"));
  file = small_file();
  file.begin("odd", 13);
  EXPECT_THAT(refusal(file.bytes()), HasSubstr("value of type 13"));
}

TEST(Gguf, ContradictionsAreRefused) {
  GgufWriter file = small_file();
  file.u32("n", 31);
  EXPECT_THAT(refusal(file.bytes()), HasSubstr("key \"n\" occurs twice"));
  file = small_file();
  file.tensor("a", {1}, 0, "1234");
  EXPECT_THAT(refusal(file.bytes()), HasSubstr("\"a\" occurs twice"));
  file = small_file();
  file.tensor_at("c", {4}, 0, 0);
  EXPECT_THAT(refusal(file.bytes()), HasSubstr("overlaps"));
  file = small_file();
  file.tensor_at("c", {4}, 0, 65);
  EXPECT_THAT(refusal(file.bytes()), HasSubstr("not aligned to 32"));
  file = small_file();
  file.tensor_at("c", {4}, 0, 1 << 20);
  EXPECT_THAT(refusal(file.bytes()), HasSubstr("cut short"));
  file = small_file();
  file.tensor_at("c", {31}, 8, 0);
  EXPECT_THAT(refusal(file.bytes()), HasSubstr("wants a multiple of 32"));
  file = small_file();
  file.tensor_at("c", {}, 0, 0);
  EXPECT_THAT(refusal(file.bytes()), HasSubstr("has 0 dimensions"));
  file = small_file();
  file.tensor_at("c", {4, 0}, 0, 0);
  EXPECT_THAT(refusal(file.bytes()), HasSubstr("dimension of 0"));
  file = small_file();
  file.u32("general.alignment", 48);
  EXPECT_THAT(refusal(file.bytes()), HasSubstr("a power of two"));
}

TEST(Gguf, ItsOwnAlignmentHolds) {
  GgufWriter file;
  file.alignment = 64;
  file.u32("general.alignment", 64);
  file.tensor("a", {1}, 0, "1234");
  file.tensor("b", {1}, 0, "5678");
  const std::string bytes = file.bytes();
  EXPECT_EQ(parse(bytes).at("b").bytes[0], std::byte{'5'});
}

}  // namespace
}  // namespace dai::paged
