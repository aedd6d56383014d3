// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/tokenizer/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "ch01_intro/tokenizer/bpe_trainer.h"
#include "ch01_intro/tokenizer/byte_alphabet.h"
#include "common/errors.h"
#include "tests/common/temp_folder.h"

namespace dai::intro {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using Ids = std::vector<std::int32_t>;

std::string letters(std::size_t count, unsigned kinds) {
  std::string text;
  for (std::size_t i = 0; i < count; ++i) {
    const auto random = static_cast<unsigned>(i) * 2654435761U;
    text += static_cast<char>('a' + (random >> 13) % kinds);
  }
  return text;
}

TokenizerParts learnt(std::string_view text, std::int64_t vocab_size = 600) {
  return train_bpe(text, {.vocab_size = vocab_size});
}

// The definition: join the leftmost pair of the lowest rank until none is left.
std::vector<std::string> naive_tokens(const TokenizerParts& parts,
                                      std::string_view word) {
  std::map<std::pair<std::string, std::string>, std::size_t> ranks;
  for (std::size_t i = 0; i < parts.merges.size(); ++i) {
    ranks[parts.merges[i]] = i;
  }
  std::vector<std::string> tokens;
  for (const char byte : word) tokens.push_back(bytes_to_token({&byte, 1}));
  for (;;) {
    std::size_t best = parts.merges.size(), at = 0;
    for (std::size_t i = 0; i + 1 < tokens.size(); ++i) {
      const auto rank = ranks.find({tokens[i], tokens[i + 1]});
      if (rank == ranks.end() || rank->second >= best) continue;
      best = rank->second;
      at = i;
    }
    if (best == parts.merges.size()) return tokens;
    tokens[at] += tokens[at + 1];
    tokens.erase(tokens.begin() + at + 1);
  }
}

TEST(Tokenizer, JoinsAsTheDefinitionDoesShortWordsAndLong) {
  const TokenizerParts parts = learnt(
      letters(3000, 3) + " " + letters(1000, 2) + " " + letters(5000, 5));
  const Tokenizer tokenizer(parts);
  for (std::size_t length = 1; length < 130; ++length) {
    for (const unsigned kinds : {1U, 2U, 5U}) {
      const std::string word = letters(length * 3, kinds).substr(length * 2);
      std::vector<std::string> tokens;
      for (const auto id : tokenizer.encode(word)) {
        tokens.push_back(tokenizer.id_to_token(id));
      }
      EXPECT_EQ(tokens, naive_tokens(parts, word)) << word;
    }
  }
}

TEST(Tokenizer, AnyBytesComeBack) {
  std::string text = "Gr\u00fc\u00dfe, \u4e16\u754c \U0001f600\n";
  for (unsigned i = 0; i < 5000; ++i) {
    text += static_cast<char>(i * 2654435761U >> 17);
  }
  const Tokenizer tokenizer(learnt(text, 400));
  EXPECT_EQ(tokenizer.decode(tokenizer.encode(text)), text);
  EXPECT_THAT(tokenizer.encode(""), IsEmpty());
  EXPECT_EQ(tokenizer.decode({}), "");
}

// Quadratic work would take hours here: the test's time-out is the limit.
TEST(Tokenizer, AMegabyteWithoutASpace) {
  const std::string word = letters(1 << 20, 4);
  const Tokenizer tokenizer(learnt(word.substr(0, 50'000)));
  EXPECT_EQ(tokenizer.decode(tokenizer.encode(word)), word);
  const std::string same(1 << 20, 'a'), spaces(1 << 20, ' ');
  const Tokenizer doubles(
      learnt(same.substr(0, 4096) + " " + spaces.substr(0, 4096)));
  EXPECT_EQ(doubles.decode(doubles.encode(same)), same);
  EXPECT_EQ(doubles.decode(doubles.encode(spaces)), spaces);
}

TEST(Tokenizer, TheIdOfATokenAndBack) {
  const Tokenizer tokenizer(learnt("the the the other other", 262));
  EXPECT_EQ(tokenizer.vocab_size(), 262);
  const auto id = tokenizer.token_to_id("\u0120the");
  ASSERT_TRUE(id.has_value());
  EXPECT_EQ(tokenizer.piece(*id), " the");
  EXPECT_EQ(tokenizer.id_to_token(*id), "\u0120the");
  EXPECT_EQ(tokenizer.token_to_id(" the"), std::nullopt);
  for (const std::int32_t bad : {-1, 262}) {
    EXPECT_THAT(message_of<UsageError>([&] { tokenizer.piece(bad); }),
                AllOf(HasSubstr(std::to_string(bad)), HasSubstr("0 to 261")));
    EXPECT_THROW(tokenizer.decode(Ids{bad}), UsageError);
  }
}

class AddedTokens : public ::testing::Test {
 protected:
  static Tokenizer with(std::vector<AddedToken> tokens) {
    TokenizerParts parts = learnt("", 256);
    for (auto& token : tokens) {
      token.id = static_cast<std::int32_t>(256 + parts.added_tokens.size());
      parts.added_tokens.push_back(token);
    }
    return Tokenizer(std::move(parts));
  }
  // Ids of added tokens as they are, of bytes as characters.
  static std::string show(const Tokenizer& tokenizer, std::string_view text,
                          const EncodeOptions& options = {}) {
    std::string shown;
    for (const auto id : tokenizer.encode(text, options)) {
      if (id < 256) {
        shown += tokenizer.piece(id);
      } else {
        shown += '[' + std::to_string(id - 256) + ']';
      }
    }
    return shown;
  }
};

TEST_F(AddedTokens, TheLeftmostThenTheLongest) {
  const auto tokenizer = with({{"<a"}, {"<ab>"}, {"b><c"}});
  EXPECT_EQ(show(tokenizer, "x<ab><c"), "x[1]<c");
  EXPECT_EQ(show(tokenizer, "<a<ab"), "[0][0]b");
  EXPECT_EQ(show(tokenizer, "ab><c>"), "a[2]>");
}

TEST_F(AddedTokens, TakeWhiteSpaceAlong) {
  const auto tokenizer = with(
      {{.content = "<l>", .lstrip = true}, {.content = "<r>", .rstrip = true}});
  EXPECT_EQ(show(tokenizer, "a \u3000<l> b<r> \n c"), "a[0] b[1]c");
  EXPECT_EQ(show(tokenizer, " <l> <l> <r> <l>"), "[0][0] [1][0]");
}

TEST_F(AddedTokens, NormalizedOnesComeSecond) {
  const auto tokenizer = with({{.content = "ab", .normalized = true}, {"bc"}});
  EXPECT_EQ(show(tokenizer, "abcab"), "a[1][0]");
}

TEST_F(AddedTokens, SpecialOnesMayBeReadAsText) {
  const auto tokenizer = with({{"<s>"}, {.content = "tool", .special = false}});
  EXPECT_EQ(show(tokenizer, "<s>tool"), "[0][1]");
  EXPECT_EQ(show(tokenizer, "<s>tool", {.parse_special_tokens = false}),
            "<s>[1]");
  const Ids ids = tokenizer.encode("a<s>tool");
  EXPECT_EQ(tokenizer.decode(ids), "a<s>tool");
  EXPECT_EQ(tokenizer.decode(ids, true), "atool");
}

TEST_F(AddedTokens, GoAroundTheTextWhereAskedFor) {
  TokenizerParts parts = learnt("", 256);
  parts.added_tokens = {{"<s>", 256}, {"</s>", 300}};
  parts.prefix_ids = {256};
  parts.suffix_ids = {300};
  const Tokenizer tokenizer(std::move(parts));
  EXPECT_THAT(tokenizer.encode(""), ElementsAre(256, 300));
  EXPECT_THAT(tokenizer.encode("", {.add_special_tokens = false}), IsEmpty());
  EXPECT_EQ(tokenizer.vocab_size(), 301);
  EXPECT_THROW(tokenizer.piece(280), UsageError);  // a hole
}

TEST(Tokenizer, WholeWordsAndUnknownBytes) {
  TokenizerParts parts;
  parts.vocab = {"a", "b", "c", "ab", "abc", "<unk>"};
  parts.merges = {{"a", "b"}};
  EXPECT_THAT(Tokenizer(parts).encode("abc"), ElementsAre(3, 2));
  EXPECT_THAT(message_of<UsageError>([&] { Tokenizer(parts).encode("abz"); }),
              HasSubstr("byte 0x7a"));
  parts.ignore_merges = true;
  parts.unk_token = "<unk>";
  EXPECT_THAT(Tokenizer(parts).encode("abc"), ElementsAre(4));
  EXPECT_THAT(Tokenizer(parts).encode("abz"), ElementsAre(3, 5));
}

TEST(Tokenizer, FromAVocabularyMergesAndAName) {  // what a GGUF file has
  TokenizerParts parts;
  parts.vocab = {"h", "i", "\u0120", "\u0120h", "<s>"};
  parts.merges = {{"\u0120", "h"}};
  parts.pre_tokenizer = pre_tokenizer_steps("llama-bpe");
  parts.added_tokens = {{"<s>", 4}};
  EXPECT_THAT(Tokenizer(std::move(parts)).encode("hi hi<s>"),
              ElementsAre(0, 1, 3, 1, 4));
}

TEST(Tokenizer, PartsThatContradictEachOtherAreRefused) {
  const auto refusal = [](auto change) {
    TokenizerParts parts;
    parts.vocab = {"a", "b", "ab", ""};
    parts.merges = {{"a", "b"}};
    change(parts);
    return message_of<UsageError>([&] { Tokenizer(std::move(parts), "file"); });
  };
  using P = TokenizerParts;
  EXPECT_THAT(refusal([](P& p) { p.vocab[3] = "a"; }),
              HasSubstr("file: vocab: \"a\" is both id 0 and id 3"));
  EXPECT_THAT(refusal([](P& p) { p.merges.push_back({"a", "z"}); }),
              HasSubstr("merges[1]: \"z\" is not in the vocabulary"));
  EXPECT_THAT(refusal([](P& p) { p.merges.push_back({"b", "a"}); }),
              HasSubstr("merges[1]: \"ba\" is not in the vocabulary"));
  // The only way round in a circle: joining nothing.
  EXPECT_THAT(refusal([](P& p) { p.merges.push_back({"", "a"}); }),
              HasSubstr("merges[1]: \"\" is not in the vocabulary"));
  EXPECT_THAT(refusal([](P& p) { p.merges.push_back({"a", "b"}); }),
              HasSubstr("merges[1] repeats merges[0]"));
  EXPECT_THAT(refusal([](P& p) { p.unk_token = "<unk>"; }),
              HasSubstr("unk_token: \"<unk>\""));
  EXPECT_THAT(refusal([](P& p) { p.added_tokens = {{"ab", 3}}; }),
              HasSubstr("\"ab\" is both id 2 and id 3"));
  EXPECT_THAT(refusal([](P& p) { p.added_tokens = {{"x", 2}}; }),
              HasSubstr("id 2 is both \"ab\" and \"x\""));
  EXPECT_THAT(refusal([](P& p) { p.added_tokens = {{"x", 4}, {"x", 4}}; }),
              HasSubstr("\"x\" occurs twice"));
  EXPECT_THAT(refusal([](P& p) { p.added_tokens = {{"", 4}}; }),
              HasSubstr("\"\" (id 4) is empty"));
  EXPECT_THAT(refusal([](P& p) { p.added_tokens = {{"\xff", 4}}; }),
              HasSubstr("(id 4) is not UTF-8"));
  EXPECT_THAT(refusal([](P& p) { p.vocab[3] = "a\x80"; }),
              HasSubstr("(id 3) is not UTF-8"));
  for (const std::int32_t id : {-1, 2'000'000'000}) {
    EXPECT_THAT(refusal([&](P& p) { p.added_tokens = {{"x", id}}; }),
                HasSubstr("out of range"));
  }
  EXPECT_THAT(refusal([](P& p) { p.prefix_ids = {3}; }),
              HasSubstr("no token has id 3"));
}

}  // namespace
}  // namespace dai::intro
