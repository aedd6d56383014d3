// SPDX-License-Identifier: Apache-2.0
#include "common/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <random>
#include <stdexcept>

#include "common/errors.h"
#include "tests/common/temp_folder.h"

namespace dai {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

// The format, written plainly: the reference for both directions.
std::string file_text(const std::string& header, const std::string& data) {
  std::string text;
  for (int i = 0; i < 8; ++i) {
    text += static_cast<char>((header.size() >> (8 * i)) & 0xff);
  }
  return text + header + data;
}

SafetensorsIndex parse(const std::string& text) {
  return parse_safetensors(std::as_bytes(std::span(text)), "'f'");
}

std::string refusal(const std::string& header, const std::string& data) {
  return message_of<UsageError>([&] { parse(file_text(header, data)); });
}

std::string text_of(const TensorView& view) {
  return {reinterpret_cast<const char*>(view.bytes.data()), view.bytes.size()};
}

class Safetensors : public TempFolder {};

TEST_F(Safetensors, ReadsAFileWrittenByHand) {
  write_file_atomically(
      folder_ / "f",
      file_text(R"({"__metadata__":{"step":"7"},)"
                R"("b":{"dtype":"I16","shape":[2],"data_offsets":[8,12]},)"
                R"("a":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]},)"
                R"("none":{"dtype":"F64","shape":[0,3],"data_offsets":[8,8]},)"
                R"("one":{"dtype":"BOOL","shape":[],"data_offsets":[12,13]}})"
                "   ",
                std::string("\x00\x00\x80\x3f\x00\x00\x00\x40"
                            "\x01\x00\x00\x80\x01",
                            13)));
  const auto file = SafetensorsFile::open(folder_ / "f");
  EXPECT_THAT(file.names(), ElementsAre("a", "b", "none", "one"));
  EXPECT_EQ(file.metadata(), (Metadata{{"step", "7"}}));
  const TensorView& a = file.at("a");
  EXPECT_EQ(a.dtype, Dtype::F32);
  EXPECT_THAT(a.shape, ElementsAre(1, 2));
  float values[2];
  ASSERT_EQ(a.bytes.size(), sizeof values);
  std::memcpy(values, a.bytes.data(), sizeof values);
  EXPECT_THAT(values, ElementsAre(1.0f, 2.0f));
  EXPECT_EQ(text_of(file.at("b")), std::string("\x01\x00\x00\x80", 4));
  EXPECT_TRUE(file.at("none").bytes.empty());
  EXPECT_EQ(file.at("one").bytes.size(), 1u);
  EXPECT_EQ(file.find("c"), nullptr);
  EXPECT_EQ(message_of<UsageError>([&] { file.at("c"); }),
            "'" + (folder_ / "f").string() + "': no tensor \"c\" among its 4");
}

TEST_F(Safetensors, WritesExactlyTheFormat) {
  const std::vector<float> w{1, 2};
  const std::vector<std::int16_t> b{3};
  const std::vector<float> a{4};
  // Declared in another order than they belong in the file.
  save_safetensors(folder_ / "f",
                   {{"b", Dtype::I16, {}, bytes_of(b)},
                    {"w\"\xc3\xa9", Dtype::F32, {2, 1}, bytes_of(w)},
                    {"a", Dtype::F32, {1}, bytes_of(a)}},
                   {{"k", "v"}});
  std::string header =
      R"({"__metadata__":{"k":"v"},)"
      R"("a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
      "\"w\\\"\xc3\xa9\":"
      R"({"dtype":"F32","shape":[2,1],"data_offsets":[4,12]},)"
      R"("b":{"dtype":"I16","shape":[],"data_offsets":[12,14]}})";
  header.resize((header.size() + 7) / 8 * 8, ' ');
  EXPECT_EQ(read_file(folder_ / "f"),
            file_text(header, std::string("\x00\x00\x80\x40"
                                          "\x00\x00\x80\x3f\x00\x00\x00\x40"
                                          "\x03\x00",
                                          14)));
}

TEST_F(Safetensors, EveryDtypeComesBack) {
  std::vector<char> data(8 * 6);
  std::iota(data.begin(), data.end(), char{1});
  std::vector<NamedTensor> tensors;
  for (int i = 0; i <= static_cast<int>(Dtype::U64); ++i) {
    const auto dtype = static_cast<Dtype>(i);
    tensors.push_back({std::string(dtype_name(dtype)),
                       dtype,
                       {2, 3},
                       bytes_of(data).first(6 * dtype_bytes(dtype))});
  }
  save_safetensors(folder_ / "f", tensors);
  const auto file = SafetensorsFile::open(folder_ / "f");
  ASSERT_EQ(file.names().size(), 15u);
  for (const NamedTensor& tensor : tensors) {
    const TensorView& view = file.at(tensor.name);
    EXPECT_EQ(parse_dtype(tensor.name, ""), view.dtype);
    EXPECT_EQ(view.shape, tensor.shape);
    EXPECT_TRUE(std::ranges::equal(view.bytes, tensor.bytes));
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(view.bytes.data()) %
                  dtype_bytes(view.dtype),
              0u);
  }
  save_safetensors(folder_ / "none", {});
  EXPECT_TRUE(SafetensorsFile::open(folder_ / "none").names().empty());
}

TEST_F(Safetensors, TheWriterRefusesMisuseAndLeavesNothing) {
  const std::vector<float> one{1};
  using Writer = SafetensorsWriter;
  const auto path = folder_ / "f";
  const auto misuse = [&](auto&& function) {
    const auto what = message_of<std::invalid_argument>(function);
    EXPECT_TRUE(files().empty()) << what;
    return what;
  };
  const Writer::Entry a{"a", Dtype::F32, {1}};
  const Writer::Entry b{"b", Dtype::F32, {1}};
  EXPECT_THAT(misuse([&] { Writer(path, {a, a}); }), HasSubstr("twice"));
  EXPECT_THAT(misuse([&] { Writer(path, {{"__metadata__", Dtype::U8, {}}}); }),
              HasSubstr("reserved"));
  EXPECT_THAT(misuse([&] { Writer(path, {{"a", Dtype::U8, {-1}}}); }),
              HasSubstr("negative"));
  EXPECT_THAT(misuse([&] { Writer(path, {b, a}).write("b", bytes_of(one)); }),
              HasSubstr("out of order"));
  EXPECT_THAT(misuse([&] { Writer(path, {a}).write("a", {}); }),
              HasSubstr("needs 4 bytes, got 0"));
  EXPECT_THAT(misuse([&] { Writer(path, {a}).commit(); }),
              HasSubstr("0 of 1 tensors written"));
}

// A header that is right except for `info`, the entry of the only tensor, "t".
std::string entry_refusal(const std::string& info, std::size_t data_bytes) {
  const auto what =
      refusal("{\"t\":" + info + "}", std::string(data_bytes, 'x'));
  EXPECT_THAT(what, StartsWith("'f': tensor \"t\": "));
  return what;
}

TEST(SafetensorsRefusal, OfTheFrame) {
  const auto of_text = [](const std::string& text) {
    return message_of<UsageError>([&] { parse(text); });
  };
  EXPECT_EQ(of_text("1234567"),
            "'f': 7 bytes is too short for a safetensors file");
  EXPECT_THAT(of_text("PK\x03\x04 a zip file"), HasSubstr("header of"));
  std::string huge = file_text("{}", std::string(100, ' '));
  huge[0] = 103;  // one more than follows
  EXPECT_THAT(of_text(huge), HasSubstr("header of 103 bytes, 102 follow"));
  huge.assign(100'000'100, ' ');
  const std::uint64_t over = 100'000'001;
  std::memcpy(huge.data(), &over, sizeof over);
  EXPECT_THAT(of_text(huge), HasSubstr("100000000 is the limit"));
}

TEST(SafetensorsRefusal, OfTheHeader) {
  EXPECT_THAT(refusal("[]", ""), HasSubstr("no JSON object"));
  EXPECT_THAT(refusal("", ""), HasSubstr("no JSON object"));
  EXPECT_EQ(refusal("{\"a\":}", ""), "'f': header: not valid JSON at byte 6");
  EXPECT_THAT(refusal("{} x", ""), HasSubstr("not valid JSON"));
  EXPECT_THAT(refusal("{\"\xff\":1}", ""), HasSubstr("not valid JSON"));
  EXPECT_THAT(refusal("{\"a\":1e999}", ""), HasSubstr("out of range"));
  EXPECT_THAT(refusal("{\"a\":" + std::string(1'000'000, '['), ""),
              HasSubstr("nested deeper than 3"));
  const std::string t = R"("t":{"dtype":"U8","shape":[1],"data_offsets":)";
  EXPECT_EQ(refusal("{" + t + "[0,1]}," + t + "[1,2]}}", "xx"),
            "'f': header: JSON key \"t\" occurs twice");
  EXPECT_THAT(refusal(R"({"__metadata__":[]})", ""), HasSubstr("an object"));
  EXPECT_THAT(refusal(R"({"__metadata__":{"a":1}})", ""),
              HasSubstr("strings only"));
}

TEST(SafetensorsRefusal, OfATensor) {
  EXPECT_THAT(entry_refusal("1", 0), HasSubstr("exactly dtype, shape, data"));
  EXPECT_THAT(entry_refusal(R"({"dtype":"U8","shape":[]})", 0),
              HasSubstr("exactly"));
  EXPECT_THAT(
      entry_refusal(R"({"dtype":"Q4","shape":[],"data_offsets":[0,1]})", 1),
      HasSubstr("unknown dtype \"Q4\" (known: BOOL U8"));
  const auto shape = [](const std::string& text) {
    return entry_refusal(
        R"({"dtype":"F32","data_offsets":[0,4],"shape":)" + text + "}", 4);
  };
  EXPECT_THAT(shape("1"), HasSubstr("wanted a list"));
  EXPECT_THAT(shape("[-1]"), HasSubstr("holds \"-1\", wanted an integer"));
  EXPECT_THAT(shape("[1.0]"), HasSubstr("wanted an integer"));
  EXPECT_THAT(shape("[9223372036854775808]"), HasSubstr("wanted an integer"));
  EXPECT_THAT(shape("[\"1\"]"), HasSubstr("wanted an integer"));
  EXPECT_THAT(shape("[2]"), HasSubstr("give 4 bytes, dtype and shape 8"));
  // 2^62 * 4 elements are 0 modulo 2^64, and a 0 must not hide an overflow.
  EXPECT_THAT(shape("[4611686018427387904,4]"), HasSubstr("too large"));
  EXPECT_THAT(shape("[4611686018427387904,4,0]"), HasSubstr("too large"));
  EXPECT_THAT(shape("[2305843009213693952]"), HasSubstr("too large"));
  const auto offsets = [](const std::string& text) {
    return entry_refusal(
        R"({"dtype":"F32","shape":[1],"data_offsets":)" + text + "}", 4);
  };
  EXPECT_THAT(offsets("[0]"), HasSubstr("[0] are no range in 4 bytes"));
  EXPECT_THAT(offsets("[4,0]"), HasSubstr("no range"));
  EXPECT_THAT(offsets("[1,5]"), HasSubstr("no range"));
  EXPECT_THAT(offsets("[0,9223372036854775807]"), HasSubstr("no range"));
  EXPECT_THAT(offsets("[-4,0]"), HasSubstr("wanted an integer"));
}

TEST(SafetensorsRefusal, OfHolesAndOverlaps) {
  const auto two = [](const std::string& a, const std::string& b) {
    const std::string head = R"({"dtype":"U8","shape":[2],"data_offsets":)";
    return refusal("{\"a\":" + head + a + "},\"b\":" + head + b + "}}",
                   "12345");
  };
  EXPECT_EQ(two("[0,2]", "[1,3]"),
            "'f': tensors overlap at byte 1 of the data");
  EXPECT_EQ(two("[0,2]", "[0,2]"),
            "'f': tensors overlap at byte 0 of the data");
  EXPECT_EQ(two("[0,2]", "[3,5]"),
            "'f': tensors leave a hole at byte 2 of the data");
  EXPECT_EQ(two("[2,4]", "[0,2]"),
            "'f': tensors end at byte 4 of 5 bytes of data");
}

TEST(SafetensorsRefusal, NamesStayOnOneShortLine) {
  const auto what =
      refusal("{\"a\\n\\u0007" + std::string(5000, 'x') + "\":1}", "");
  EXPECT_THAT(what, HasSubstr("tensor \"a\\n\\u0007xxx"));
  EXPECT_LT(what.size(), 250u);
}

// Any bytes at all: either views inside the file or a UsageError. The copy is
// exactly as long as the text, so that asan sees a read one byte too far.
bool survives(const std::string& text) {
  const std::vector<char> exact(text.begin(), text.end());
  const auto bytes = bytes_of(exact);
  try {
    for (const auto& [name, view] : parse_safetensors(bytes, "f").tensors) {
      EXPECT_GE(view.bytes.data(), bytes.data());
      EXPECT_LE(view.bytes.data() + view.bytes.size(),
                bytes.data() + bytes.size());
      EXPECT_EQ(view.bytes.size(), tensor_bytes(view.dtype, view.shape));
    }
    return true;
  } catch (const UsageError&) {
    return false;
  }
}

TEST_F(Safetensors, MutatedFilesNeverCrash) {
  const std::vector<float> w(24, 1.0f);
  save_safetensors(folder_ / "f",
                   {{"layer.w", Dtype::F32, {4, 6}, bytes_of(w)},
                    {"layer.b", Dtype::BF16, {2, 4}, bytes_of(w).first(16)},
                    {"none", Dtype::I64, {0, 9}, {}}},
                   {{"step", "12"}});
  const std::string good = read_file(folder_ / "f");
  ASSERT_TRUE(survives(good));
  for (std::size_t size = 0; size < good.size(); ++size) {
    EXPECT_FALSE(survives(good.substr(0, size))) << "cut to " << size;
  }
  std::mt19937_64 random(1234);
  const auto below = [&](std::size_t n) {
    return static_cast<std::size_t>(random() % n);
  };
  // Bytes of JSON hit its grammar and its numbers far more often than any.
  const std::string likely = "{}[]:,\"0123456789-.eE\\u __metadata__F32";
  int accepted = 0;
  for (int round = 0; round < 20'000; ++round) {
    std::string text = good;
    for (std::size_t k = 0; k <= below(3); ++k) {
      char& at = text[below(text.size())];
      switch (below(4)) {
        case 0:
          at = static_cast<char>(at ^ (1 << below(8)));
          break;
        case 1:
          at = likely[below(likely.size())];
          break;
        case 2:
          text.erase(below(text.size()), 1 + below(8));
          break;
        case 3:  // a piece of the file itself, somewhere else
          text.insert(below(text.size()),
                      good.substr(below(good.size()), 1 + below(40)));
          break;
      }
    }
    accepted += survives(text);
  }
  // Changed data bytes and names are no errors; most of the rest must be.
  EXPECT_GT(accepted, 100);
  EXPECT_LT(accepted, 15'000);
}

}  // namespace
}  // namespace dai
