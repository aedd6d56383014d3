// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/tokenizer/tokenizer_json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "ch01_intro/tokenizer/bpe_trainer.h"
#include "common/errors.h"
#include "common/file.h"
#include "tests/common/temp_folder.h"

namespace dai::intro {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

json good() {
  return json::parse(tokenizer_json(
      train_bpe("the cat that sat",
                {.vocab_size = 262, .special_tokens = {"<|endoftext|>"}})));
}

// What a file is refused for, after `change` at `pointer`.
std::string refusal(const char* pointer, const json& change) {
  json file = good();
  file[json::json_pointer(pointer)] = change;
  return message_of<UsageError>([&] {
    Tokenizer(parse_tokenizer_json(file.dump(), "'t.json'"), "'t.json'");
  });
}

TEST(TokenizerJson, WhatIsWrittenIsReadAgain) {
  for (const char* name : {"gpt-2", "llama-bpe", "qwen2", "smollm"}) {
    for (const bool space : {false, true}) {
      TokenizerParts parts = train_bpe("some \"text\"\\ \u4e2d\t12",
                                       {.vocab_size = 263,
                                        .pre_tokenizer = name,
                                        .add_prefix_space = space,
                                        .special_tokens = {"<s>", "</s>"}});
      parts.added_tokens.push_back(
          {"tool \"x\"", 300, false, true, false, true});
      parts.prefix_ids = {0};
      parts.suffix_ids = {1, 1};
      parts.ignore_merges = true;
      parts.unk_token = "a";
      const std::string text = tokenizer_json(parts);
      const TokenizerParts read = parse_tokenizer_json(text, "'t.json'");
      EXPECT_EQ(read.vocab, parts.vocab);
      EXPECT_EQ(read.merges, parts.merges);
      EXPECT_EQ(read.pre_tokenizer, parts.pre_tokenizer) << name << space;
      EXPECT_EQ(read.prefix_ids, parts.prefix_ids);
      EXPECT_EQ(read.suffix_ids, parts.suffix_ids);
      EXPECT_EQ(read.unk_token, parts.unk_token);
      EXPECT_TRUE(read.ignore_merges);
      EXPECT_EQ(tokenizer_json(read), text);
    }
  }
}

TEST(TokenizerJson, MergesInEitherForm) {
  json file = good();
  const auto as_lists = parse_tokenizer_json(file.dump(), "'t.json'");
  for (json& merge : file["model"]["merges"]) {
    merge = merge[0].get<std::string>() + " " + merge[1].get<std::string>();
  }
  EXPECT_EQ(parse_tokenizer_json(file.dump(), "'t.json'").merges,
            as_lists.merges);
  ASSERT_FALSE(as_lists.merges.empty());
}

TEST(TokenizerJson, OldFilesOmitWhatIsUsual) {
  const TokenizerParts parts = parse_tokenizer_json(R"({
    "added_tokens": [{"id": 2, "content": "<s>", "special": true}],
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false},
    "decoder": {"type": "ByteLevel"},
    "model": {"vocab": {"a": 0, "b": 1}, "merges": []}})",
                                                    "'t.json'");
  EXPECT_THAT(parts.vocab, ElementsAre("a", "b"));
  EXPECT_THAT(parts.merges, IsEmpty());
  EXPECT_FALSE(parts.added_tokens.at(0).normalized);
  EXPECT_EQ(parts.pre_tokenizer, pre_tokenizer_steps("gpt-2"));
}

TEST(TokenizerJson, WhatIsNotSupportedIsRefusedByName) {
  const struct {
    const char* pointer;
    json change;
    const char* named;
  } kCases[] = {
      {"/version", "2.0", "version: \"\\\"2.0\\\"\""},
      {"/truncation", json::object(), "truncation"},
      {"/padding", json::object(), "padding"},
      {"/normalizer", {{"type", "NFC"}}, "normalizer: \"{\\\"type"},
      {"/surprise", 1, "\"surprise\" is not supported"},
      {"/decoder/type", "WordPiece", "decoder.type: \"WordPiece\""},
      {"/model/type", "Unigram", "model.type"},
      {"/model/dropout", 0.1, "model.dropout"},
      {"/model/byte_fallback", true, "model.byte_fallback"},
      {"/model/continuing_subword_prefix", "##", "continuing_subword_prefix"},
      {"/model/end_of_word_suffix", "</w>", "model.end_of_word_suffix"},
      {"/model/max_input", 100, "model: \"max_input\" is not supported"},
      {"/added_tokens/0/single_word", true, "added_tokens[0].single_word"},
      {"/pre_tokenizer/type", "Metaspace", "pre_tokenizer.type"},
      {"/pre_tokenizer/type", "Digits", "\"add_prefix_space\" is not"},
      {"/pre_tokenizer", {{"type", "Digits"}}, "no ByteLevel"},
      {"/post_processor", {{"type", "BertProcessing"}}, "post_processor.type"},
  };
  for (const auto& [pointer, change, named] : kCases) {
    EXPECT_THAT(refusal(pointer, change),
                AllOf(HasSubstr("'t.json': "), HasSubstr(named)))
        << pointer;
  }
}

TEST(TokenizerJson, AnUnknownPatternIsShown) {
  json split = {{"type", "Split"},
                {"pattern", {{"Regex", "\\w+|\\d"}}},
                {"behavior", "Isolated"},
                {"invert", false}};
  const json byte_level = {{"type", "ByteLevel"}, {"use_regex", false}};
  const auto refused = [&] {
    return refusal("/pre_tokenizer", {{"type", "Sequence"},
                                      {"pretokenizers", {split, byte_level}}});
  };
  EXPECT_THAT(refused(), AllOf(HasSubstr("pretokenizers[0].pattern.Regex"),
                               HasSubstr(R"("\\w+|\\d")")));
  split["pattern"]["Regex"] = pattern_text(WordPattern::kLlama3);
  split["behavior"] = "MergedWithNext";
  EXPECT_THAT(refused(), HasSubstr("MergedWithNext"));
  split["pattern"] = {{"String", " "}};
  EXPECT_THAT(refused(), HasSubstr("no \"Regex\""));
}

TEST(TokenizerJson, WrongTypesAndContradictionsAreNamed) {
  const struct {
    const char* pointer;
    json change;
    const char* named;
  } kCases[] = {
      {"/model", 7, "model: holds \"7\", wanted an object"},
      {"/model/vocab", json::array(), "model.vocab"},
      {"/model/vocab/a", "1", "is no token id"},
      {"/model/vocab/a", -1, "is no token id"},
      {"/model/vocab/a", 1.5, "is no token id"},
      {"/model/vocab/a", 5000000000, "is no token id"},
      {"/model/vocab/a", 2000000000, "of 262 tokens"},
      {"/model/vocab/a", 70, "model.vocab: id 70 is both"},
      {"/model/vocab/", 500, "the token with id 500 is empty"},
      {"/model/merges", "a b", "wanted a list"},
      {"/model/merges/0", "a", "model.merges[0]"},
      {"/model/merges/0", "a b c", "model.merges[0]"},
      {"/model/merges/0", {"a", 1}, "model.merges[0]"},
      {"/model/merges/0", {"q", "zz"}, "\"zz\" is not in the vocabulary"},
      {"/model/merges/0", {"", "a"}, "\"\" is not in the vocabulary"},
      {"/model/ignore_merges", "yes", "wanted true or false"},
      {"/model/unk_token", 1, "model.unk_token"},
      {"/added_tokens", json::object(), "added_tokens"},
      {"/added_tokens/0", 1, "added_tokens[0]"},
      {"/added_tokens/0/id", "0", "added_tokens[0].id"},
      {"/added_tokens/0/id", 5, "is both id 0 and id 5"},
      {"/added_tokens/0/content", "!!", "id 0 is both"},
      {"/added_tokens/0/lstrip", 1, "added_tokens[0].lstrip"},
      {"/pre_tokenizer", json(), "pre_tokenizer: holds \"null\""},
      {"/decoder", json(), "decoder: holds \"null\""},
      {"/post_processor", {{"type", "TemplateProcessing"}}, "special_tokens"},
      {"/post_processor",
       {{"type", "TemplateProcessing"},
        {"single", {{{"SpecialToken", {{"id", "<x>"}, {"type_id", 0}}}}}},
        {"special_tokens", json::object()}},
       "no \"<x>\""},
      {"/post_processor",
       {{"type", "TemplateProcessing"},
        {"single", json::array()},
        {"special_tokens", json::object()}},
       "the text is not in it"},
  };
  for (const auto& [pointer, change, named] : kCases) {
    EXPECT_THAT(refusal(pointer, change),
                AllOf(HasSubstr("'t.json': "), HasSubstr(named)))
        << pointer;
  }
  for (const char* missing :
       {"model", "added_tokens", "pre_tokenizer", "decoder"}) {
    json file = good();
    file.erase(missing);
    EXPECT_THAT(message_of<UsageError>(
                    [&] { parse_tokenizer_json(file.dump(), "'t.json'"); }),
                HasSubstr(missing));
  }
}

TEST(TokenizerJson, UnknownBytesMayNotBeFusedSilently) {
  json file = good();
  file["model"]["unk_token"] = "<|endoftext|>";
  file["model"]["fuse_unk"] = true;
  EXPECT_NO_THROW(parse_tokenizer_json(file.dump(), "'t.json'"));
  file["model"]["vocab"].erase("z");
  EXPECT_THAT(message_of<UsageError>(
                  [&] { parse_tokenizer_json(file.dump(), "'t.json'"); }),
              HasSubstr("model.fuse_unk"));
}

class TokenizerFile : public TempFolder {};

TEST_F(TokenizerFile, EveryTruncationIsRefusedInOneLine) {
  const auto path = folder_ / "tokenizer.json";
  save_tokenizer_json(Tokenizer(train_bpe("abc", {.vocab_size = 258})), path);
  EXPECT_EQ(load_tokenizer_json(path).vocab_size(), 258);
  const std::string text = read_file(path);
  for (std::size_t size = 0; size + 1 < text.size(); size += 97) {
    write_file_atomically(path, std::string_view(text).substr(0, size));
    EXPECT_THAT(message_of<UsageError>([&] { load_tokenizer_json(path); }),
                HasSubstr("tokenizer.json"));
  }
  write_file_atomically(path, std::string("{\"model\": {}, \"model\": {}}"));
  EXPECT_THAT(message_of<UsageError>([&] { load_tokenizer_json(path); }),
              HasSubstr("\"model\" occurs twice"));
  EXPECT_THROW(load_tokenizer_json(folder_ / "none.json"), UsageError);
}

}  // namespace
}  // namespace dai::intro
