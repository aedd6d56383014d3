// SPDX-License-Identifier: Apache-2.0
#pragma once

// From a conversation to the token ids that a model was trained to see: the
// model's own template, then its tokenizer.
//
//   const ChatTemplate chat(source, "'m.gguf'", {.eos_token = "<|im_end|>"});
//   const MarkedText prompt = chat.render({{"user", "Hello"}});
//   std::vector<std::int32_t> ids = encode_marked(tokenizer, prompt);
//
// Added tokens of any kind count only where the template wrote them. A user's
// "<|im_end|>" is encoded as the ten characters that it is, so that nobody ends
// a turn, or begins the system's, from inside a message.
// Throws UsageError: a template that is malformed or not supported
// (template_syntax.h), one that refuses the messages, a role that is no word.

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "ch01_intro/tokenizer/tokenizer.h"
#include "ch06_paged_inference/text/template_syntax.h"

namespace dai::paged {

struct ChatMessage {
  std::string role;  // "system", "user", "assistant", "tool"
  std::string content;
};

struct ChatTokens {
  std::string bos_token, eos_token;
};

class ChatTemplate {
 public:
  ChatTemplate(std::string source, std::string where, ChatTokens tokens = {});

  // With what makes the model answer next, or without.
  MarkedText render(const std::vector<ChatMessage>& messages,
                    bool add_generation_prompt = true) const;
  // The same for messages as clients send them, whatever members they have;
  // `more` are further names for the template ("tools", say).
  MarkedText render(const nlohmann::ordered_json& messages,
                    bool add_generation_prompt,
                    const nlohmann::ordered_json& more =
                        nlohmann::ordered_json::object()) const;

  const std::string& source() const { return source_; }

 private:
  std::string source_, where_;
  ChatTokens tokens_;
  TemplateBlock body_;
};

// The ids of all of it, without the tokenizer's own prefix and suffix: the
// template has written those. Where a user wrote no control token, these are
// the ids of encode(text).
std::vector<std::int32_t> encode_marked(const intro::Tokenizer& tokenizer,
                                        const MarkedText& text);

}  // namespace dai::paged
