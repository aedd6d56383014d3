// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/tokenizer/pre_tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "ch01_intro/tokenizer/byte_alphabet.h"
#include "ch01_intro/tokenizer/unicode.h"
#include "common/errors.h"
#include "tests/common/temp_folder.h"

namespace dai::intro {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using Words = std::vector<std::string>;

Words words(std::string_view family, std::string_view text) {
  Words found;
  PreTokenizer(pre_tokenizer_steps(family))
      .for_each(text, [&](std::string_view word) { found.emplace_back(word); });
  return found;
}

TEST(PreTokenizer, Gpt2TakesOneSpaceAlong) {
  EXPECT_THAT(words("gpt-2", "to be,  or 12x"),
              ElementsAre("to", " be", ",", " ", " or", " 12", "x"));
  EXPECT_THAT(words("gpt-2", "a \t\n b\n\n"),
              ElementsAre("a", " \t\n", " b", "\n\n"));
  EXPECT_THAT(words("gpt-2", "\xc2\xa0 x\xe3\x80\x80y"),
              ElementsAre("\xc2\xa0", " x", "\xe3\x80\x80", "y"));
  EXPECT_THAT(words("gpt-2", ""), IsEmpty());
}

TEST(PreTokenizer, ContractionsFollowTheirCase) {
  EXPECT_THAT(words("gpt-2", "we'll we'LL 'x''s"),
              ElementsAre("we", "'ll", " we", "'", "LL", " '", "x", "''", "s"));
  EXPECT_THAT(words("llama-bpe", "we'Re I'M 'x"),
              ElementsAre("we", "'Re", " I", "'M", " '", "x"));
  // Without case, U+017F is an s too.
  EXPECT_THAT(words("qwen2", "it'\u017f"), ElementsAre("it", "'\u017f"));
  EXPECT_THAT(words("gpt-2", "it'\u017f"), ElementsAre("it", "'", "\u017f"));
  EXPECT_THAT(words("gpt-2", "'"), ElementsAre("'"));
}

TEST(PreTokenizer, Llama3CountsDigitsAndKeepsLineEnds) {
  EXPECT_THAT(words("llama-bpe", "1234567 x"),
              ElementsAre("123", "456", "7", " x"));
  EXPECT_THAT(words("qwen2", "12\u0663"), ElementsAre("1", "2", "\u0663"));
  EXPECT_THAT(
      words("llama-bpe", "f(x);\n\n  \n  y\t.z\r\n"),
      ElementsAre("f", "(x", ");\n\n", "  \n", " ", " y", "\t", ".z", "\r\n"));
  EXPECT_THAT(words("llama-bpe", "\ny  !"), ElementsAre("\n", "y", " ", " !"));
}

TEST(PreTokenizer, StepsCutWhatTheOneBeforeLeft) {
  EXPECT_THAT(words("smollm", "a  12 b1"),
              ElementsAre("a", "  ", "1", "2", " b", "1"));
  auto steps = pre_tokenizer_steps("smollm");
  steps.insert(steps.begin() + 1, {PreTokenizerStep::Kind::kPrefixSpace});
  Words found;
  PreTokenizer(steps).for_each(
      "a1 b", [&](std::string_view word) { found.emplace_back(word); });
  EXPECT_THAT(found, ElementsAre(" a", " 1", " b"));
}

TEST(PreTokenizer, WordsTogetherAreTheTextWhateverItsBytes) {
  std::string text;
  for (unsigned i = 0; i < 20000; ++i) {
    const unsigned random = i * 2654435761U >> 13;
    text += random % 3 == 0 ? "a1 \n'\xe4\xb8\xad"[random / 3 % 8]
                            : static_cast<char>(random);
  }
  for (const char* family : {"gpt-2", "llama-bpe", "qwen2", "smollm"}) {
    std::string joined;
    for (const std::string& word : words(family, text)) {
      EXPECT_FALSE(word.empty());
      joined += word;
    }
    EXPECT_EQ(joined, text) << family;
  }
}

TEST(PreTokenizer, AnUnknownNameIsShownWithTheKnownOnes) {
  EXPECT_THAT(message_of<UsageError>([] { pre_tokenizer_steps("tekken"); }),
              AllOf(HasSubstr("'tekken'"), HasSubstr("llama-bpe")));
  WordPattern pattern{};
  EXPECT_FALSE(find_pattern(R"(\w+)", pattern));
  EXPECT_TRUE(find_pattern(pattern_text(WordPattern::kQwen2), pattern));
  EXPECT_EQ(pattern, WordPattern::kQwen2);
}

TEST(Unicode, KindsOfCharacters) {
  const auto kind = [](const char* text) { return character_at(text, 0).kind; };
  for (const char* letter : {"a", "\u00e9", "\u4e2d", "\u0915", "\U00010400",
                             "\U0002a6df", "\u1c8a"}) {
    EXPECT_EQ(kind(letter), CharacterKind::kLetter) << letter;
  }
  for (const char* number : {"7", "\u0663", "\u00bd", "\u2167", "\U0001d7d9"}) {
    EXPECT_EQ(kind(number), CharacterKind::kNumber) << number;
  }
  for (const char* space :
       {"\t", " ", "\u0085", "\u00a0", "\u2028", "\u3000"}) {
    EXPECT_EQ(kind(space), CharacterKind::kSpace);
  }
  for (const char* other : {"!", "\u0301", "\u200b", "\ufeff", "\U0001f600",
                            "\u0903", "\U000e0041", "\xff", "\xe4\xb8"}) {
    EXPECT_EQ(kind(other), CharacterKind::kOther) << other;
  }
}

TEST(ByteAlphabet, EveryByteHasACharacterOfItsOwn) {
  std::string bytes;
  for (int byte = 0; byte < 256; ++byte) bytes += static_cast<char>(byte);
  const std::string token = bytes_to_token(bytes);
  EXPECT_EQ(token_to_bytes(token), bytes);
  EXPECT_EQ(bytes_to_token(" a\n\xff"), "\u0120a\u010a\u00ff");
  EXPECT_EQ(bytes_to_token("\x7f\xad"), "\u0121\u0143");
  // What is not in the alphabet stands for itself.
  EXPECT_EQ(token_to_bytes("\u0120 a"), "\u0120 a");
  EXPECT_EQ(alphabet_bytes("\u0144"), std::nullopt);
}

}  // namespace
}  // namespace dai::intro
