// SPDX-License-Identifier: Apache-2.0
#include "ch06_paged_inference/generate/chat.h"

#include <exception>
#include <stdexcept>
#include <utility>

#include "common/errors.h"
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
  messages_.push_back({"user", question});
  try {
    return answer_last(piece);
  } catch (...) {
    messages_.pop_back();  // as if it had not been asked
    throw;
  }
}

std::vector<std::int32_t> Chat::prompt() const {
  const ModelText& text = model_.text();
  if (!text.chat_error.empty()) throw UsageError(text.chat_error);
  if (text.chat) {
    return encode_marked(text.tokenizer, text.chat->render(messages_));
  }
  std::string all;
  for (const ChatMessage& message : messages_) all += message.content;
  return text.tokenizer.encode(all, {.parse_special_tokens = false});
}

ChatAnswer Chat::answer_last(
    const std::function<void(std::string_view)>& piece) {
  Request request;
  request.prompt = prompt();
  request.sampling = sampling_;
  ChatAnswer answer;
  answer.tokens = request.prompt;
  const WallTimer timer;
  std::string error;
  std::exception_ptr thrown;  // by `piece`; the engine cancels the answer then
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
    try {
      piece(output.text);
    } catch (...) {
      thrown = std::current_exception();
      throw;
    }
  };
  model_.engine().submit(std::move(request));
  while (model_.engine().step()) {
  }
  if (thrown) std::rethrow_exception(thrown);
  if (!error.empty()) throw std::runtime_error(error);
  if (answer.logprobs.size() > 1) {
    answer.tokens_per_s = static_cast<double>(answer.logprobs.size() - 1) /
                          (timer.ms() - answer.first_token_ms) * 1e3;
  }
  messages_.push_back({"assistant", answer.text});
  return answer;
}

}  // namespace dai::paged
