// SPDX-License-Identifier: Apache-2.0
#include "ch06_paged_inference/text/output_text.h"

#include <gtest/gtest.h>

#include <random>

#include "ch01_intro/tokenizer/byte_alphabet.h"

namespace dai::paged {
namespace {

// A token for each byte, and <end> (256), which has no text.
const intro::Tokenizer& bytes() {
  static const intro::Tokenizer kTokenizer = [] {
    intro::TokenizerParts parts;
    for (int byte = 0; byte < 256; ++byte) {
      parts.vocab.push_back(
          intro::bytes_to_token(std::string(1, static_cast<char>(byte))));
    }
    parts.added_tokens = {{.content = "<end>", .id = 256}};
    return intro::Tokenizer(parts);
  }();
  return kTokenizer;
}

struct Sent {
  std::string text, stopped_by;
  std::vector<std::string> pieces;
};

Sent send(const std::string& text, std::vector<std::string> stops,
          bool include = false) {
  OutputText output(bytes(), std::move(stops), include);
  Sent sent;
  const auto add = [&](std::string piece) {
    sent.text += piece;
    sent.pieces.push_back(std::move(piece));
  };
  for (const char c : text) {
    add(output.push(static_cast<unsigned char>(c)));
    if (output.stopped()) break;
  }
  if (!output.stopped()) add(output.finish());
  sent.stopped_by = output.stopped_by();
  return sent;
}

TEST(OutputText, EndsBeforeAStopString) {
  EXPECT_EQ(send("one two three", {"two"}).text, "one ");
  EXPECT_EQ(send("one two three", {"two"}).stopped_by, "two");
  EXPECT_EQ(send("one two three", {"two"}, true).text, "one two");
  EXPECT_EQ(send("one two three", {"four"}).text, "one two three");
  EXPECT_EQ(send("one two three", {"four"}).stopped_by, "");
}

TEST(OutputText, OfSeveralTheOneThatBeginsFirst) {
  EXPECT_EQ(send("abcd", {"cd", "bc"}).stopped_by, "bc");
  EXPECT_EQ(send("aabc", {"abc", "ab"}).text, "a");
  EXPECT_EQ(send("xxab", {"xab", "ab"}).stopped_by, "xab");
}

TEST(OutputText, HoldsBackWhatMayBecomeOne) {
  const Sent sent = send("a\n\nb\n\n\nc", {"\n\n\n"});
  EXPECT_EQ(sent.text, "a\n\nb");
  EXPECT_EQ(sent.pieces[0], "a");
  EXPECT_EQ(sent.pieces[1], "");
  EXPECT_EQ(sent.pieces[2], "");
  EXPECT_EQ(sent.pieces[3], "\n\nb");
  // What was held back comes in the end.
  EXPECT_EQ(send("a\n\n", {"\n\n\n"}).text, "a\n\n");
}

TEST(OutputText, CharactersAreWhole) {
  const Sent sent = send("\xe2\x82\xac!", {});
  EXPECT_EQ(sent.pieces[0], "");
  EXPECT_EQ(sent.pieces[1], "");
  EXPECT_EQ(sent.pieces[2], "\xe2\x82\xac");
  EXPECT_EQ(send("a\xe2\x82", {}).text, "a\xef\xbf\xbd");
}

TEST(OutputText, SpecialTokensHaveNoText) {
  OutputText output(bytes(), {});
  EXPECT_EQ(output.push(256), "");
  EXPECT_EQ(output.push('a'), "a");
  EXPECT_EQ(output.finish(), "");
}

TEST(OutputText, NothingStopsBeforeItMay) {
  OutputText output(bytes(), {"b"});
  EXPECT_EQ(output.push('b', false), "b");
  EXPECT_FALSE(output.stopped());
  EXPECT_EQ(output.push('b', true), "");
  EXPECT_TRUE(output.stopped());
}

// However the text is cut: all of it up to the first stop string, never more.
TEST(OutputText, SentTextIsThatBeforeTheFirstStop) {
  std::mt19937 random(5);
  for (int round = 0; round < 3000; ++round) {
    std::string text;
    for (int i = 0; i < 12; ++i) text += static_cast<char>('a' + random() % 2);
    std::string stop;
    for (std::size_t i = 0; i < 1 + random() % 4; ++i) {
      stop += static_cast<char>('a' + random() % 2);
    }
    EXPECT_EQ(send(text, {stop}).text, text.substr(0, text.find(stop)))
        << text << " stopped by " << stop;
  }
}

}  // namespace
}  // namespace dai::paged
