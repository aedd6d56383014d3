// SPDX-License-Identifier: Apache-2.0
#include "ch06_paged_inference/text/model_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "ch01_intro/tokenizer/tokenizer_json.h"
#include "common/errors.h"
#include "common/file.h"
#include "tests/ch06_paged_inference/support/gguf_writer.h"
#include "tests/common/temp_folder.h"

namespace dai::paged {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

GgufWriter words() {
  GgufWriter file;
  file.text("tokenizer.ggml.model", "gpt2");
  file.text("tokenizer.ggml.pre", "smollm");
  file.texts("tokenizer.ggml.tokens", {"<s>", "a", "b", "ab", "</s>", "<u>"});
  file.i32s("tokenizer.ggml.token_type", {3, 1, 1, 1, 3, 4});
  file.texts("tokenizer.ggml.merges", {"a b"});
  return file;
}

class ModelTexts : public TempFolder {
 protected:
  std::filesystem::path write(const GgufWriter& file) {
    write_file_atomically(folder_ / "m.gguf", file.bytes());
    return folder_ / "m.gguf";
  }
  std::string refusal(const std::function<void(GgufWriter&)>& change) {
    GgufWriter file = words();
    change(file);
    const auto path = write(file);
    return message_of<UsageError>([&] { open_model_text(path); });
  }
};

TEST_F(ModelTexts, FromAGguf) {
  GgufWriter file = words();
  file.u32("tokenizer.ggml.bos_token_id", 0);
  file.u32("tokenizer.ggml.eos_token_id", 4);
  file.flag("tokenizer.ggml.add_bos_token", true);
  file.text("tokenizer.chat_template",
            "{{ bos_token }}{{ messages[0].content }}{{ eos_token }}");
  const ModelText text = open_model_text(write(file));
  EXPECT_THAT(text.tokenizer.encode("abba<u></s>"),
              ElementsAre(0, 3, 2, 1, 5, 4));
  EXPECT_TRUE(text.tokenizer.is_special(4));
  EXPECT_FALSE(text.tokenizer.is_special(5));
  EXPECT_THAT(text.stop_ids, ElementsAre(4));
  EXPECT_EQ(text.chat->render({{"user", "ab"}}).text(), "<s>ab</s>");
}

TEST_F(ModelTexts, WithoutATemplateThereIsNoChat) {
  const ModelText text = open_model_text(write(words()));
  EXPECT_FALSE(text.chat);
  EXPECT_TRUE(text.stop_ids.empty());
}

TEST_F(ModelTexts, WhatDoesNotFitIsNamed) {
  EXPECT_THAT(refusal([](auto& f) { f.u32("tokenizer.ggml.eos_token_id", 6); }),
              HasSubstr("eos_token_id is 6, the vocabulary has 6"));
  EXPECT_THAT(
      refusal([](auto& f) { f.flag("tokenizer.ggml.add_space_prefix", true); }),
      HasSubstr("a space before every text"));
  GgufWriter blocks = words();
  blocks.text("tokenizer.chat_template", "{% block x %}");
  const ModelText unchatty = open_model_text(write(blocks));
  EXPECT_FALSE(unchatty.chat);
  EXPECT_THAT(unchatty.chat_error, HasSubstr("chat template line 1"));
  GgufWriter spm;
  spm.text("tokenizer.ggml.model", "llama");
  const auto path = write(spm);
  EXPECT_THAT(message_of<UsageError>([&] { open_model_text(path); }),
              HasSubstr("tokenizer of model \"llama\""));
  GgufWriter pre;
  pre.text("tokenizer.ggml.model", "gpt2").text("tokenizer.ggml.pre", "tekken");
  pre.texts("tokenizer.ggml.tokens", {"a"}).texts("tokenizer.ggml.merges", {});
  const auto other = write(pre);
  EXPECT_THAT(message_of<UsageError>([&] { open_model_text(other); }),
              HasSubstr("'tekken' is not supported"));
}

TEST_F(ModelTexts, FromAFolderOfHuggingFaces) {
  const ModelText from = open_model_text(write(words()));
  const auto model = folder_ / "hf";
  std::filesystem::create_directories(model);
  intro::save_tokenizer_json(from.tokenizer, model / "tokenizer.json");
  write_file_atomically(model / "config.json", R"({"eos_token_id": 4})");
  write_file_atomically(
      model / "tokenizer_config.json",
      R"({"bos_token": {"content": "<s>"}, "eos_token": "</s>",
          "chat_template": [{"name": "tool_use", "template": "no"},
                            {"name": "default", "template":
                             "{{ bos_token }}{{ messages[0].content }}"}]})");
  write_file_atomically(model / "generation_config.json",
                        R"({"eos_token_id": [4, 0]})");
  const ModelText text = open_model_text(model);
  EXPECT_THAT(text.stop_ids, ElementsAre(4, 0));
  EXPECT_EQ(text.chat->render({{"user", "ab"}}).text(), "<s>ab");
  write_file_atomically(model / "chat_template.jinja", "newer");
  EXPECT_EQ(open_model_text(model).chat->render({{"user", ""}}).text(),
            "newer");
  write_file_atomically(model / "generation_config.json",
                        R"({"eos_token_id": 99})");
  EXPECT_THAT(message_of<UsageError>([&] { open_model_text(model); }),
              HasSubstr("eos_token_id \"99\" is no token"));
}

TEST_F(ModelTexts, BesideACheckpoint) {
  const ModelText from = open_model_text(write(words()));
  const auto step = folder_ / "run" / "step-000010";
  std::filesystem::create_directories(step);
  EXPECT_THAT(message_of<UsageError>([&] { open_model_text(step); }),
              HasSubstr("no whole checkpoint"));
  intro::save_tokenizer_json(from.tokenizer, folder_ / "run/tokenizer.json");
  EXPECT_EQ(open_model_text(step).tokenizer.vocab_size(), 6);
  EXPECT_EQ(open_model_text(folder_ / "run").tokenizer.vocab_size(), 6);
}

}  // namespace
}  // namespace dai::paged
