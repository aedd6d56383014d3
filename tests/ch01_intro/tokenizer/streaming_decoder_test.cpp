// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/tokenizer/streaming_decoder.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "ch01_intro/tokenizer/bpe_trainer.h"
#include "common/errors.h"

namespace dai::intro {
namespace {

constexpr const char* kBad = "\xef\xbf\xbd";

std::string bad(int count, std::string rest = "") {
  std::string text;
  while (count-- > 0) text += kBad;
  return text + rest;
}

TEST(Utf8Stream, HoldsBackUntilACharacterIsWhole) {
  Utf8Stream stream;
  EXPECT_EQ(stream.push("a\xf0"), "a");
  EXPECT_EQ(stream.push("\x9f\x98"), "");
  EXPECT_EQ(stream.push("\x80z"), "\U0001f600z");
  EXPECT_EQ(stream.finish(), "");
  EXPECT_EQ(stream.push("\xe4\xb8"), "");
  EXPECT_EQ(stream.finish(), kBad);
  EXPECT_EQ(stream.push("b"), "b");  // as new
}

// The Unicode standard's own example (section 3.9, table 3-8 and around it).
TEST(Utf8Stream, OneReplacementAMaximalSubpart) {
  EXPECT_EQ(replace_malformed("\xc0\xaf\xe0\x80\xbf\xf0\x81\x82\x41"),
            bad(8, "A"));
  EXPECT_EQ(replace_malformed("\xed\xa0\x80\xed\xbf\xbf\xed\xaf\x41"),
            bad(8, "A"));
  EXPECT_EQ(replace_malformed("\xf4\x91\x92\x93\xff\x41\x80\xbf\x42"),
            bad(5, "A") + bad(2, "B"));
  EXPECT_EQ(replace_malformed("\xe1\x80\xe2\xf0\x91\x92\xf1\xbf\x41"),
            bad(4, "A"));
}

TEST(Utf8Stream, CutsDoNotMatter) {
  std::string bytes;
  for (unsigned i = 0; i < 4096; ++i) {
    constexpr std::string_view kSome =
        "\x41\x80\xbf\xa0\x90\xc2\xdf\xe0\xe4\xed\xf0\xf1\xf4\xf5\xff";
    bytes += kSome[(i * 2654435761U >> 11) % kSome.size()];
  }
  const std::string whole = replace_malformed(bytes);
  for (std::size_t cut = 1; cut < 6; ++cut) {
    Utf8Stream stream;
    std::string text;
    for (std::size_t at = 0; at < bytes.size(); at += cut) {
      text += stream.push(std::string_view(bytes).substr(at, cut));
    }
    EXPECT_EQ(text + stream.finish(), whole) << cut;
  }
}

TEST(StreamingDecoder, TokensThatEndInsideACharacter) {
  // 256 bytes and a special token: an emoji takes four ids.
  const Tokenizer tokenizer(
      train_bpe("", {.vocab_size = 257, .special_tokens = {"<end>"}}));
  const auto ids = tokenizer.encode("\U0001f600!<end>");
  ASSERT_EQ(ids.size(), 6U);
  StreamingDecoder decoder(tokenizer);
  std::vector<std::string> parts;
  for (const auto id : ids) parts.push_back(decoder.push(id));
  EXPECT_EQ(parts,
            (std::vector<std::string>{"", "", "", "\U0001f600", "!", "<end>"}));
  StreamingDecoder quiet(tokenizer, true);
  EXPECT_EQ(quiet.push(ids[0]), "");
  EXPECT_EQ(quiet.push(ids[5]), "");  // special: not even looked at
  EXPECT_EQ(quiet.push(ids[4]), bad(1, "!"));
  EXPECT_EQ(quiet.finish(), "");
  EXPECT_THROW(decoder.push(257), UsageError);
}

}  // namespace
}  // namespace dai::intro
