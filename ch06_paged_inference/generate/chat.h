// SPDX-License-Identifier: Apache-2.0
#pragma once

// A conversation with a model, turn by turn: all of it is given to the engine
// each time, whose prefix cache has all but the newest words.
//
//   Chat chat(model, {.temperature = 0, .max_tokens = 64}, "Be brief.");
//   ChatAnswer answer = chat.ask("What is a page table?", print);
//
// A model without a chat template goes on with the text so far. Throws
// UsageError when the conversation is longer than the model or memory allows,
// and forgets what was asked then.

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "ch06_paged_inference/generate/loaded_model.h"

namespace dai::paged {

struct ChatAnswer {
  std::string text;
  FinishReason finish = FinishReason::kNone;
  std::vector<std::int32_t> tokens;  // prompt and answer
  std::vector<float> logprobs;       // of the answer's, as the engine drew them
  std::int64_t prompt_tokens = 0, cached_tokens = 0;
  double first_token_ms = 0;  // from asking to it
  double tokens_per_s = 0;    // of those behind it; 0: there were none
};

class Chat {
 public:
  Chat(LoadedModel& model, SamplingParams sampling, const std::string& system);

  // `piece` gets the text as it comes.
  ChatAnswer ask(const std::string& question,
                 const std::function<void(std::string_view)>& piece);

 private:
  std::vector<std::int32_t> prompt() const;
  ChatAnswer answer_last(const std::function<void(std::string_view)>& piece);

  LoadedModel& model_;
  SamplingParams sampling_;
  std::vector<ChatMessage> messages_;
};

}  // namespace dai::paged
