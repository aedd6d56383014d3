// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/tokenizer/bpe_trainer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "ch01_intro/tokenizer/byte_alphabet.h"
#include "common/errors.h"
#include "tests/common/temp_folder.h"

namespace dai::intro {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Merges = std::vector<std::pair<std::string, std::string>>;

// The definition, written plainly: count every pair anew before each join.
Merges naive_merges(std::string_view text, std::size_t most) {
  std::map<std::string, std::int64_t> ids;  // in the order of arrival
  auto alphabet = byte_alphabet();
  std::sort(alphabet.begin(), alphabet.end());
  for (const char32_t c : alphabet) {
    const auto id = static_cast<std::int64_t>(ids.size());
    for (int byte = 0; byte < 256; ++byte) {
      if (byte_alphabet()[byte] != c) continue;
      ids[bytes_to_token(std::string(1, static_cast<char>(byte)))] = id;
    }
  }
  std::vector<std::vector<std::string>> words;
  PreTokenizer(pre_tokenizer_steps("gpt-2"))
      .for_each(text, [&](std::string_view word) {
        words.emplace_back();
        for (const char byte : word) {
          words.back().push_back(bytes_to_token({&byte, 1}));
        }
      });
  Merges merges;
  while (merges.size() < most) {
    std::map<std::pair<std::int64_t, std::int64_t>, std::int64_t> counts;
    std::map<std::pair<std::int64_t, std::int64_t>,
             std::pair<std::string, std::string>>
        names;
    for (const auto& word : words) {
      for (std::size_t i = 0; i + 1 < word.size(); ++i) {
        const std::pair key(ids.at(word[i]), ids.at(word[i + 1]));
        ++counts[key];
        names[key] = {word[i], word[i + 1]};
      }
    }
    if (counts.empty()) break;
    const auto best = std::max_element(  // the first of the largest
        counts.begin(), counts.end(),
        [](const auto& a, const auto& b) { return a.second < b.second; });
    const auto [left, right] = names.at(best->first);
    merges.emplace_back(left, right);
    ids.emplace(left + right, static_cast<std::int64_t>(ids.size()));
    for (auto& word : words) {
      for (std::size_t i = 0; i + 1 < word.size(); ++i) {
        if (word[i] != left || word[i + 1] != right) continue;
        word[i] += right;
        word.erase(word.begin() + i + 1);
      }
    }
  }
  return merges;
}

std::string some_text() {
  const std::vector<std::string> kParts = {
      "the ", "there ", "other",      "s ",          "banana ",
      "aaaa", " aaa ",  "caf\u00e9 ", "na\u00efve ", "\n",
      "12 ",  "123",    "it's ",      "\u4e2d\u6587"};
  std::string text;
  for (unsigned i = 0; i < 1200; ++i) {
    const unsigned random = i * 2654435761U >> 15;
    text += kParts[random % kParts.size()];
    text += static_cast<char>('a' + random / 64 % 7);
  }
  return text;
}

TEST(BpeTrainer, LearnsWhatTheDefinitionLearns) {
  const std::string text = some_text();
  const Merges expected = naive_merges(text, 150);
  ASSERT_EQ(expected.size(), 150U);
  const auto parts = train_bpe(text, {.vocab_size = 256 + 150});
  EXPECT_EQ(parts.merges, expected);
  EXPECT_EQ(parts.vocab.size(), 406U);
  for (std::size_t i = 0; i < expected.size(); ++i) {
    EXPECT_EQ(parts.vocab[256 + i], expected[i].first + expected[i].second);
  }
}

TEST(BpeTrainer, TiesGoToTheSmallerIds) {
  // "b a" and "c d" occur as often; b is the smaller.
  const auto parts = train_bpe("cd ba", {.vocab_size = 257});
  EXPECT_THAT(parts.merges, ElementsAre(std::pair("b", "a")));
}

TEST(BpeTrainer, SpecialTokensComeFirst) {
  const auto parts = train_bpe(
      "aa aa", {.vocab_size = 259, .special_tokens = {"<pad>", "<end>"}});
  EXPECT_EQ(parts.vocab[0], "<pad>");
  EXPECT_EQ(parts.vocab[1], "<end>");
  EXPECT_EQ(parts.vocab[2], "!");
  EXPECT_EQ(parts.vocab[258], "aa");
  const Tokenizer tokenizer(parts);
  EXPECT_THAT(tokenizer.encode("aa<end>"), ElementsAre(258, 1));
  EXPECT_TRUE(tokenizer.is_special(1));
  EXPECT_FALSE(tokenizer.is_special(2));
}

TEST(BpeTrainer, StopsWhereNothingIsLeft) {
  EXPECT_EQ(train_bpe("ab", {.vocab_size = 1000}).vocab.size(), 257U);
  EXPECT_EQ(train_bpe("", {.vocab_size = 1000}).vocab.size(), 256U);
  const auto rare =
      train_bpe("ab ab cd", {.vocab_size = 1000, .min_frequency = 2});
  EXPECT_THAT(rare.merges, ElementsAre(std::pair("a", "b")));
}

TEST(BpeTrainer, RefusesWhatCannotBe) {
  const auto refusal = [](const TrainBpeOptions& options) {
    return message_of<UsageError>([&] { train_bpe("text", options); });
  };
  EXPECT_THAT(refusal({.vocab_size = 256, .special_tokens = {"<a>"}}),
              HasSubstr("vocab_size 256: at least 257"));
  EXPECT_THAT(refusal({.special_tokens = {"<a>", "<a>"}}),
              HasSubstr("'<a>' is given twice"));
  EXPECT_THAT(refusal({.special_tokens = {""}}), HasSubstr("is empty"));
  EXPECT_THAT(refusal({.pre_tokenizer = "words"}), HasSubstr("'words'"));
}

}  // namespace
}  // namespace dai::intro
