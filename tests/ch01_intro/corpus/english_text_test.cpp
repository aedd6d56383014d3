// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/corpus/english_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>

#include "ch01_intro/corpus/utf8.h"
#include "common/errors.h"

namespace dai::intro {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
namespace fs = std::filesystem;

constexpr const char* kAbout = "00-database-short\n   A dictionary.\n\n";
constexpr const char* kArrive =
    "Arrive \\Ar*rive\"\\, v. t.\n"
    "   1. To bring to\n"
    "      shore; see {Land}. [Obs.]\n"
    "      [1913 Webster]\n\n";
constexpr const char* kOx = "Ox \\Ox\\, n.\n   An animal.\n   [WordNet 1.5]\n";

std::string base64(std::size_t number) {
  const char* digits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  for (; number > 0 || text.empty(); number /= 64) {
    text.insert(text.begin(), digits[number % 64]);
  }
  return text;
}

class EnglishText : public ::testing::Test {
 protected:
  EnglishText() {
    dir_ = fs::temp_directory_path() /
           ("english_text_test." + std::to_string(getpid()));
    fs::create_directories(dir_);
    const std::string about = kAbout, arrive = kArrive, ox = kOx;
    write_gzip(about + arrive + ox);
    write("d.index",
          row("00-database-short", 0, about.size()) +
              row("arrive", about.size(), arrive.size()) +
              row("arriving", about.size(), arrive.size()) +  // the same entry
              row("ox", about.size() + arrive.size(), ox.size()));
  }
  ~EnglishText() override { fs::remove_all(dir_); }

  static std::string row(const std::string& word, std::size_t offset,
                         std::size_t length) {
    return word + "\t" + base64(offset) + "\t" + base64(length) + "\n";
  }
  std::string path(const std::string& name) const { return dir_ / name; }
  void write(const std::string& name, const std::string& bytes) {
    std::ofstream(dir_ / name, std::ios::binary) << bytes;
  }
  void write_gzip(const std::string& bytes) {
    gzFile file = gzopen(path("d.dict.dz").c_str(), "wb");
    gzwrite(file, bytes.data(), static_cast<unsigned>(bytes.size()));
    gzclose(file);
  }
  std::string refusal_of_dictionary() {
    return refusal([&] { load_dictionary_text(path("d")); });
  }
  template <typename Work>
  static std::string refusal(const Work& work) {
    try {
      work();
    } catch (const UsageError& error) {
      const std::string what = error.what();
      EXPECT_EQ(what.find('\n'), std::string::npos) << what;
      return what;
    }
    return "nothing was refused";
  }
  fs::path dir_;
};

TEST_F(EnglishText, EntriesBecomeParagraphs) {
  EXPECT_EQ(load_dictionary_text(path("d")),
            "Arrive, v. t. 1. To bring to shore; see Land. [Obs.]\n\n"
            "Ox, n. An animal.\n\n");
}

TEST_F(EnglishText, AnEntryThatIsOddStaysWhole) {
  EXPECT_EQ(paragraph_of_entry("Ab\\b, only one\n   backslash\n"),
            "Ab\\b, only one backslash");
  EXPECT_EQ(paragraph_of_entry("\n  \n   [1913 Webster]\n"), "");
  EXPECT_EQ(paragraph_of_entry("[A remark] of [1913 Webster] itself"),
            "[A remark] of [1913 Webster] itself");
}

TEST_F(EnglishText, StrayBytesAreReplaced) {
  write_gzip("a\x92 caf\xc3\xa9");
  write("d.index", row("a", 0, 8));
  EXPECT_EQ(load_dictionary_text(path("d")), "a\uFFFD caf\u00e9\n\n");
}

TEST_F(EnglishText, DamageIsNamed) {
  write("d.index", "arrive\tA\n");
  EXPECT_THAT(refusal_of_dictionary(),
              AllOf(HasSubstr("d.index:1"), HasSubstr("dict-gcide")));
  write("d.index", row("ok", 0, 5) + "x\t!\tB\n");
  EXPECT_THAT(refusal_of_dictionary(), HasSubstr("d.index:2"));
  write("d.index", row("far", 5, 100000));
  EXPECT_THAT(refusal_of_dictionary(), HasSubstr("behind the end"));
  write("d.index", row("00-database-short", 0, 5));
  EXPECT_THAT(refusal_of_dictionary(), HasSubstr("names no entry"));
  fs::remove(path("d.index"));
  EXPECT_THAT(refusal_of_dictionary(),
              AllOf(HasSubstr("d.index"), HasSubstr("dict-gcide")));
  fs::resize_file(path("d.dict.dz"), fs::file_size(path("d.dict.dz")) - 6);
  EXPECT_THAT(refusal_of_dictionary(), HasSubstr("truncated"));
  write("d.dict.dz", "plain text");
  EXPECT_THAT(refusal_of_dictionary(), HasSubstr("not a gzip file"));
  fs::remove(path("d.dict.dz"));
  EXPECT_THAT(refusal_of_dictionary(),
              AllOf(HasSubstr("No such file"), HasSubstr("--text FILE")));
}

TEST_F(EnglishText, AFileOfTheReadersOwnComesAsItIs) {
  write("mine.txt", "Gr\u00fc\u00dfe,\n\nworld \U0001F30D\n");
  EXPECT_EQ(load_english_text(path("mine.txt")),
            "Gr\u00fc\u00dfe,\n\nworld \U0001F30D\n");
  write("mine.txt", "ok\xc3(");
  EXPECT_THAT(refusal([&] { load_english_text(path("mine.txt")); }),
              AllOf(HasSubstr("mine.txt"), HasSubstr("0xc3 at offset 2")));
  write("mine.txt", std::string("a\0b", 3));
  EXPECT_THAT(refusal([&] { load_english_text(path("mine.txt")); }),
              HasSubstr("NUL at offset 1"));
  write("mine.txt", "");
  EXPECT_THAT(refusal([&] { load_english_text(path("mine.txt")); }),
              HasSubstr("empty"));
  EXPECT_THAT(refusal([&] { load_english_text(path("none.txt")); }),
              HasSubstr("none.txt"));
}

// The package itself: set-up installs it.
TEST_F(EnglishText, NoMoreIsReadThanAskedAndNoHalfCharacter) {
  write("cut.txt", "ab\xc3\xa9\xe2\x82\xac\xff");
  const std::string path = this->path("cut.txt");
  EXPECT_EQ(load_english_text(path, 2), "ab");
  EXPECT_EQ(load_english_text(path, 3), "ab");
  EXPECT_EQ(load_english_text(path, 4), "ab\xc3\xa9");
  EXPECT_EQ(load_english_text(path, 6), "ab\xc3\xa9");
  EXPECT_EQ(load_english_text(path, 7), "ab\xc3\xa9\xe2\x82\xac");
  EXPECT_THROW(load_english_text(path, 8), UsageError);  // the bad byte
  EXPECT_THROW(load_english_text(path), UsageError);
}

TEST_F(EnglishText, WhatHasNoEndIsRefused) {
  try {
    load_english_text("/dev/zero", 100);
    FAIL();
  } catch (const UsageError& error) {
    EXPECT_THAT(error.what(), HasSubstr("regular file"));
  }
}

TEST(Gcide, IsTwentyMegabytesOfEnglish) {
  const std::string text = load_english_text("");
  EXPECT_GT(text.size(), 20'000'000U);
  EXPECT_EQ(first_invalid_utf8(text), std::string::npos);
  EXPECT_THAT(text, HasSubstr("Arrive, v. t. 1. To bring to shore. [Obs.]"));
  EXPECT_EQ(text.find("{"), std::string::npos);
  EXPECT_EQ(text.find("00-database"), std::string::npos);
  const auto letters = std::count_if(
      text.begin(), text.end(), [](unsigned char c) { return isalpha(c); });
  EXPECT_GT(static_cast<double>(letters), 0.7 * text.size());
}

TEST(Utf8, TheTableOfRfc3629) {
  for (const char* good : {"", "a", "\u00e9", "\u0800", "\ud7ff", "\ue000",
                           "\U00010000", "\U0010ffff"}) {
    EXPECT_EQ(first_invalid_utf8(good), std::string::npos) << good;
  }
  for (const char* bad :
       {"\x80", "\xc0\x80", "\xc1\xbf", "\xe0\x9f\xbf", "\xed\xa0\x80",
        "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xff",
        "\xc3", "\xe2\x82", "\xf0\x9f\x98", "\xe2\x28\xa1"}) {
    EXPECT_EQ(first_invalid_utf8(std::string("ok") + bad), 2U);
  }
  EXPECT_EQ(replace_invalid_utf8("a\xff\xc3\xa9\xc3"), "a\uFFFD\u00e9\uFFFD");
}

}  // namespace
}  // namespace dai::intro
