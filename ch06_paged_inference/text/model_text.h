// SPDX-License-Identifier: Apache-2.0
#pragma once

// The words that belong to a model: its tokenizer, the ids that end an answer,
// its chat template. Found beside the weights, in whatever form they have
// (model_file.h).
//
//   const ModelText text = open_model_text("model.gguf");
//   text.tokenizer.encode("Hello");
//   text.chat->render({{"user", "Hello"}});
//
//   GGUF            tokenizer.ggml.* of model "gpt2" (byte-level BPE), with the
//                   pre-tokenizers of pre_tokenizer_steps()
//   Hugging Face    tokenizer.json, tokenizer_config.json, chat_template.jinja,
//                   generation_config.json
//   checkpoint      tokenizer.json, in its folder or the run's; without one the
//                   dictionary's is learnt again, as ch03_ddp_train learnt it,
//                   and held against the tokens that the checkpoint remembers
//
// Throws UsageError for files that are not there, malformed or not supported.

#include <cstdint>
#include <filesystem>
#include <optional>
#include <vector>

#include "ch01_intro/tokenizer/tokenizer.h"
#include "ch06_paged_inference/model_file/gguf.h"
#include "ch06_paged_inference/text/chat_template.h"

namespace dai::paged {

struct ModelText {
  intro::Tokenizer tokenizer;
  std::vector<std::int32_t> stop_ids;  // end of an answer: eos and its like
  std::optional<ChatTemplate> chat;    // nothing: the model is no chat model
  std::string chat_error = {};         // or its template is not supported
};

// What has to be learnt is kept in `cache_folder`; empty: nothing is.
ModelText open_model_text(const std::filesystem::path& path,
                          const std::filesystem::path& cache_folder = {});

// What tokenizer.ggml.* says.
intro::TokenizerParts gguf_tokenizer_parts(const GgufFile& file);

}  // namespace dai::paged
