// SPDX-License-Identifier: Apache-2.0
#include "ch06_paged_inference/generate/chat.h"

#include <stdexcept>
#include <utility>

#include "common/timer.h"

namespace dai::paged {

Chat::Chat(LoadedModel& model, SamplingParams sampling,
           const std::string& system)
    : model_(model), sampling_(std::move(sampling)) {
  sampling_.logprobs = 0;  // of what is drawn
  if (!system.empty()) messages_.push_back({"system", system});
}

ChatAnswer Chat::ask(const std::string& question,
                     const std::function<void(std::string_view)>& piece) {
  const ModelText& text = model_.text();
  messages_.push_back({"user", question});
  Request request;
  request.prompt =
      text.chat ? encode_marked(text.tokenizer, text.chat->render(messages_))
                : text.tokenizer.encode(question);
  request.sampling = sampling_;
  ChatAnswer answer;
  answer.tokens = request.prompt;
  const WallTimer timer;
  std::string error;
  request.on_output = [&](const Output& output) {
    if (answer.logprobs.empty()) answer.first_token_ms = timer.ms();
    answer.text += output.text;
    answer.tokens.insert(answer.tokens.end(), output.tokens.begin(),
                         output.tokens.end());
    for (const TokenLogprob& token : output.logprobs) {
      answer.logprobs.push_back(token.logprob);
    }
    answer.prompt_tokens = output.prompt_tokens;
    answer.cached_tokens = output.cached_tokens;
    answer.finish = output.finish;
    error = output.error;
    piece(output.text);
  };
  model_.engine().submit(std::move(request));
  while (model_.engine().step()) {
  }
  if (!error.empty()) throw std::runtime_error(error);
  if (answer.logprobs.size() > 1) {
    answer.tokens_per_s = static_cast<double>(answer.logprobs.size() - 1) /
                          (timer.ms() - answer.first_token_ms) * 1e3;
  }
  messages_.push_back({"assistant", answer.text});
  return answer;
}

}  // namespace dai::paged
