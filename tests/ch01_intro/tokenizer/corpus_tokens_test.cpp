// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/tokenizer/corpus_tokens.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <string>
#include <vector>

#include "ch01_intro/tokenizer/tokenizer_json.h"
#include "common/errors.h"
#include "common/file.h"
#include "tests/common/temp_folder.h"

namespace dai::intro {
namespace {

using ::testing::HasSubstr;
namespace fs = std::filesystem;

std::string some_text() {
  std::string text;
  for (int i = 0; i < 3000; ++i) {
    text +=
        "word" + std::to_string(i * i % 97) + (i % 7 ? " " : " caf\u00e9\n");
  }
  return text;
}

class CorpusTokensTest : public TempFolder {
 protected:
  CorpusTokens get(std::string_view text) {
    return cached_corpus_tokens(text, options_, folder_ / "cache");
  }
  // The one file of the cache that ends so.
  fs::path only(std::string_view ending) const {
    fs::path found;
    for (const auto& entry : fs::directory_iterator(folder_ / "cache")) {
      if (!entry.path().string().ends_with(ending)) continue;
      EXPECT_TRUE(found.empty());
      found = entry.path();
    }
    EXPECT_FALSE(found.empty()) << ending;
    return found;
  }
  CorpusTokensOptions options_{.vocab_size = 300};
};

TEST_F(CorpusTokensTest, TheSecondTimeTheSameFromDisk) {
  const std::string text = some_text();
  const CorpusTokens first = get(text), second = get(text);
  EXPECT_FALSE(first.from_cache);
  EXPECT_TRUE(second.from_cache);
  EXPECT_EQ(first.ids, second.ids);
  EXPECT_EQ(second.tokenizer.decode(second.ids), text);
  EXPECT_EQ(second.tokenizer.vocab_size(), 300);
  EXPECT_EQ(tokenizer_json(first.tokenizer.parts()),
            tokenizer_json(second.tokenizer.parts()));
  EXPECT_EQ(second.tokenizer.token_to_id("<|endoftext|>"), 0);
  EXPECT_EQ(load_tokenizer_json(only(".tokenizer.json")).encode(text),
            first.ids);
}

TEST_F(CorpusTokensTest, AnotherTextOrVocabularyIsAnotherEntry) {
  const std::string text = some_text();
  get(text);
  std::string other = text;
  other[text.size() / 2] ^= 1;
  EXPECT_FALSE(get(other).from_cache);
  options_.vocab_size = 301;
  EXPECT_FALSE(get(text).from_cache);
  options_.vocab_size = 300;
  EXPECT_TRUE(get(text).from_cache);
}

TEST_F(CorpusTokensTest, ALimitCutsAtACharacter) {
  const std::string text = "ab\u00e9\u4e2dz";  // 1 1 2 3 1 bytes
  const struct {
    std::int64_t limit;
    std::size_t kept;
  } kCases[] = {{1, 1}, {2, 2}, {3, 2}, {4, 4},
                {6, 4}, {7, 7}, {8, 8}, {99, 8}};
  for (const auto& [limit, kept] : kCases) {
    options_.max_text_bytes = limit;
    const CorpusTokens got = get(text);
    EXPECT_EQ(got.tokenizer.decode(got.ids), text.substr(0, kept)) << limit;
  }
}

TEST_F(CorpusTokensTest, AnyDamageIsNoticedAndMended) {
  const std::string text = some_text();
  const auto ids = get(text).ids;
  for (const char* ending : {".ids", ".tokenizer.json"}) {
    const fs::path path = only(ending);
    const std::string whole = read_file(path);
    for (std::size_t at = 0; at < whole.size(); at += 1 + whole.size() / 23) {
      std::string damaged = whole;
      damaged[at] ^= 0x10;
      write_file_atomically(path, damaged);
      const CorpusTokens got = get(text);
      EXPECT_FALSE(got.from_cache) << ending << at;
      EXPECT_EQ(got.ids, ids);
      EXPECT_EQ(read_file(path), whole);
    }
    for (const std::size_t size :
         {whole.size() - 1, whole.size() / 2, 7UL, 0UL}) {
      write_file_atomically(path, whole.substr(0, size));
      EXPECT_FALSE(get(text).from_cache) << ending << size;
    }
    write_file_atomically(path, whole + whole);
    EXPECT_FALSE(get(text).from_cache) << ending;
    fs::remove(path);
    EXPECT_FALSE(get(text).from_cache) << ending;
    EXPECT_TRUE(get(text).from_cache) << ending;
  }
}

TEST_F(CorpusTokensTest, OfProcessesThatStartTogetherOneWorks) {
  const std::string text = some_text();
  std::vector<pid_t> children;
  for (int i = 0; i < 4; ++i) {
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      int code = 9;
      try {
        code = get(text).from_cache ? 1 : 0;
      } catch (...) {
      }
      ::_exit(code);
    }
    children.push_back(child);
  }
  int fresh = 0;
  for (const pid_t child : children) {
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFEXITED(status));
    ASSERT_LE(WEXITSTATUS(status), 1);
    fresh += WEXITSTATUS(status) == 0;
  }
  EXPECT_EQ(fresh, 1);
  EXPECT_TRUE(get(text).from_cache);
  const auto names = fs::directory_iterator(folder_ / "cache");
  EXPECT_EQ(std::distance(begin(names), end(names)), 3);  // and the lock
}

TEST_F(CorpusTokensTest, WithoutAFolderNothingIsKept) {
  const CorpusTokens got = cached_corpus_tokens(some_text(), options_, "");
  EXPECT_EQ(got.tokenizer.decode(got.ids), some_text());
  EXPECT_TRUE(fs::is_empty(folder_));
}

TEST_F(CorpusTokensTest, RefusalsSayWhatWasGiven) {
  EXPECT_THAT(message_of<UsageError>([&] { get(""); }), HasSubstr("no text"));
  options_.vocab_size = 256;
  EXPECT_THAT(message_of<UsageError>([&] { get("text"); }),
              HasSubstr("vocab_size 256"));
  options_ = {.max_text_bytes = -1};
  EXPECT_THAT(message_of<UsageError>([&] { get("text"); }),
              HasSubstr("max_text_bytes -1"));
  write_file_atomically(folder_ / "file", "");
  EXPECT_THAT(message_of<UsageError>([&] {
                cached_corpus_tokens("text", {}, folder_ / "file" / "cache");
              }),
              HasSubstr("cannot make the folder"));
}

}  // namespace
}  // namespace dai::intro
