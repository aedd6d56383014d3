// SPDX-License-Identifier: Apache-2.0
#include "ch06_paged_inference/engine/engine.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "common/errors.h"

namespace dai::paged {
namespace {

double clock_seconds() {
  return std::chrono::duration<double>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

bool contains(const std::vector<std::int32_t>& ids, std::int32_t id) {
  return std::find(ids.begin(), ids.end(), id) != ids.end();
}

}  // namespace

Engine::Engine(EngineOptions options, ModelRunner& runner,
               const intro::Tokenizer* tokenizer)
    : options_(std::move(options)),
      runner_(runner),
      tokenizer_(tokenizer),
      scheduler_(options_.scheduler, runner.kv_blocks(), runner.block_size(),
                 options_.policy),
      sampler_(runner.vocab_size(), options_.seed) {
  if (!options_.now) options_.now = clock_seconds;
  // One block stays for a copy, so that a sequence that is alone always fits.
  max_length_ = std::min(runner.max_positions(),
                         (runner.kv_blocks() - 1) * runner.block_size());
  if (options_.max_length > 0) {
    max_length_ = std::min(max_length_, options_.max_length);
  }
  for (const std::int32_t id : options_.end_ids) {
    if (id < 0 || id >= runner.vocab_size()) {
      throw UsageError(fmt::format("end id {} is not in the vocabulary", id));
    }
  }
  if (max_length_ < 2) {
    throw UsageError("the KV cache has no room for a prompt and an answer");
  }
  if (options_.asynchronous) thread_.emplace();
  publish_stats();
}

Engine::~Engine() {
  thread_.reset();  // its job refers to flight_
}

std::int64_t Engine::submit(Request request) {
  request.sampling.check(runner_.vocab_size());
  const std::int64_t prompt = std::ssize(request.prompt);
  if (prompt < 1 || prompt >= max_length_) {
    throw UsageError(fmt::format("a prompt of {} tokens: 1 to {} are accepted",
                                 prompt, max_length_ - 1));
  }
  for (const std::int32_t token : request.prompt) {
    if (token < 0 || token >= runner_.vocab_size()) {
      throw UsageError(fmt::format("token id {} is not in the vocabulary of {}",
                                   token, runner_.vocab_size()));
    }
  }
  if (!request.sampling.stop.empty() && tokenizer_ == nullptr) {
    throw UsageError("stop strings need a tokenizer");
  }
  const std::lock_guard lock(mutex_);
  const std::int64_t waiting = stats_.waiting + inbox_requests_;
  if (waiting >= options_.max_waiting ||
      waiting_tokens_ + inbox_tokens_ + prompt * request.sampling.n >
          options_.max_waiting_tokens) {
    throw AdmissionRefused(fmt::format("{} requests with {} tokens are waiting",
                                       waiting,
                                       waiting_tokens_ + inbox_tokens_));
  }
  ++inbox_requests_;
  inbox_tokens_ += prompt * request.sampling.n;
  inbox_.push_back(
      {next_request_, std::make_shared<const Request>(std::move(request))});
  return next_request_++;
}

void Engine::cancel(std::int64_t request) {
  const std::lock_guard lock(mutex_);
  inbox_.push_back({request, nullptr});
}

void Engine::take_inbox() {
  std::vector<Command> commands;
  {
    const std::lock_guard lock(mutex_);
    commands.swap(inbox_);
  }
  for (const Command& command : commands) {
    if (options_.record_arrivals) {
      arrivals_.push_back(
          {counted_.steps, command.request, command.asked == nullptr});
    }
    if (command.asked == nullptr) {
      cancel_now(command.request);
    } else {
      start_request(command);
    }
  }
  publish_stats();
}

void Engine::start_request(const Command& command) {
  Answer* first = nullptr;
  for (std::int64_t i = 0; i < command.asked->sampling.n; ++i) {
    auto answer = std::make_unique<Answer>();
    Sequence& s = answer->sequence;
    s.id = next_sequence_++;
    s.request = command.request;
    s.index = i;
    s.asked = command.asked;
    s.tokens = command.asked->prompt;
    s.limit = s.prompt_tokens() + std::min(command.asked->sampling.max_tokens,
                                           max_length_ - s.prompt_tokens());
    if (tokenizer_ != nullptr) {
      answer->text.emplace(*tokenizer_, command.asked->sampling.stop,
                           command.asked->sampling.include_stop);
    }
    if (i == 0) {
      scheduler_.add(s);
      first = answer.get();
    } else {
      s.state = SequenceState::kForked;
      first->siblings.push_back(s.id);
    }
    answers_.emplace(s.id, std::move(answer));
  }
}

void Engine::cancel_now(std::int64_t request) {
  for (const auto& [id, answer] : answers_) {
    Sequence& s = answer->sequence;
    if (s.request != request || s.finish != FinishReason::kNone) continue;
    scheduler_.remove(s, FinishReason::kCancelled);
    send(*answer, {.finish = FinishReason::kCancelled});
  }
}

bool Engine::step() {
  scheduler_.blocks().pool().set_now(options_.now());
  take_inbox();
  StepPlan plan = scheduler_.plan();  // while the one before is computed
  // A step without rows: all wait for the one in flight, or the only one was
  // preempted. Not twice in a row.
  idle_steps_ = plan.empty() && !flight_ ? idle_steps_ + 1 : 0;
  if (flight_) land(&plan);
  launch(std::move(plan));
  if (!options_.asynchronous && flight_) land(nullptr);
  deliver();  // meanwhile
  if (options_.check_ledger) scheduler_.check_ledger();
  publish_stats();
  const bool unfinished = !answers_.empty();
  if (unfinished && idle_steps_ > 2) {
    throw std::logic_error("sequences wait that no step can compute");
  }
  const std::lock_guard lock(mutex_);
  return unfinished || !inbox_.empty();
}

void Engine::launch(StepPlan plan) {
  if (plan.empty()) return;
  ++counted_.steps;
  counted_.computed_tokens += std::ssize(plan.tokens);
  if (watcher_) watcher_(plan);
  flight_.emplace();
  flight_->logits.resize(
      static_cast<std::size_t>(plan.draws() * runner_.vocab_size()));
  flight_->plan = std::move(plan);
  if (thread_) {
    thread_->start([this] { runner_.run(flight_->plan, flight_->logits); });
  }
}

void Engine::land(StepPlan* next) {
  std::string failure;
  try {
    if (thread_) {
      thread_->wait();
    } else {
      runner_.run(flight_->plan, flight_->logits);
    }
  } catch (const std::exception& error) {
    failure = error.what();
  }
  const Flight flight = *std::exchange(flight_, std::nullopt);
  if (failure.empty()) {
    draw(flight);
    if (next != nullptr) fill(*next);
    return;
  }
  // Blocks that the step was to fill hold nothing: who would read them fails
  // with it.
  fail(flight.plan, failure);
  if (next != nullptr) {
    fail(*next, failure);
    *next = {};
  }
  // Others may have taken such blocks without a row in these steps.
  while (scheduler_.preempt_last()) {
  }
  scheduler_.reset_prefix_cache();
}

void Engine::draw(const Flight& flight) {
  const auto vocab = static_cast<std::size_t>(runner_.vocab_size());
  std::size_t at = 0;
  for (const PlanRow& row : flight.plan.rows) {
    Answer& answer = *answers_.at(row.sequence);
    scheduler_.row_done(answer.sequence, row.draws);
    if (!row.draws) continue;
    const std::span<const float> logits =
        std::span(flight.logits).subspan(vocab * at++, vocab);
    if (answer.sequence.finish == FinishReason::kNone) {
      draw_row(answer, logits);
    }
  }
}

// The token that comes next, and for the first of n answers also the first
// token of the others, which go on from its prompt.
void Engine::draw_row(Answer& answer, std::span<const float> logits) {
  std::vector<Answer*> group{&answer};
  for (const std::int64_t id : std::exchange(answer.siblings, {})) {
    group.push_back(answers_.at(id).get());
  }
  std::vector<FinishReason> reasons;
  for (Answer* one : group) {
    std::vector<float> own(logits.begin(), logits.end());
    Sequence& s = one->sequence;
    TokenLogprob token;
    FinishReason reason = FinishReason::kError;
    try {
      token = sampler_.draw(s, own, options_.end_ids);
      scheduler_.append(s, token.token);
      ++counted_.generated_tokens;
      reason = finish_after(*one);
      drawn_.push_back({s.id, std::move(token)});
    } catch (const std::exception& error) {
      send(*one, {.finish = FinishReason::kError, .error = error.what()});
    }
    reasons.push_back(reason);
    if (one != &answer && reason == FinishReason::kNone) {
      scheduler_.fork(answer.sequence, s);
    }
  }
  for (std::size_t i = 0; i < group.size(); ++i) {
    if (reasons[i] != FinishReason::kNone) {
      scheduler_.remove(group[i]->sequence, reasons[i]);
    }
  }
}

FinishReason Engine::finish_after(const Answer& answer) const {
  const Sequence& s = answer.sequence;
  const SamplingParams& p = s.asked->sampling;
  const std::int32_t last = s.tokens.back();
  if (!p.ignore_eos && contains(options_.end_ids, last)) {
    return FinishReason::kStop;
  }
  if (contains(p.stop_ids, last)) return FinishReason::kStop;
  return std::ssize(s.tokens) >= s.limit ? FinishReason::kLength
                                         : FinishReason::kNone;
}

void Engine::fill(StepPlan& next) {
  for (std::size_t i = next.rows.size(); i-- > 0;) {
    PlanRow& row = next.rows[i];
    Sequence& s = answers_.at(row.sequence)->sequence;
    if (s.finish != FinishReason::kNone) {  // by what has just been drawn
      scheduler_.row_done(s, row.draws);
      next.drop(i);
      continue;
    }
    for (std::int64_t k = 0; k < row.count; ++k) {
      std::int32_t& token =
          next.tokens[static_cast<std::size_t>(row.first + k)];
      if (token == kUnknownToken) {
        token = s.tokens[static_cast<std::size_t>(row.position + k)];
      }
    }
  }
}

void Engine::fail(const StepPlan& plan, const std::string& why) {
  for (const PlanRow& row : plan.rows) {
    Answer& answer = *answers_.at(row.sequence);
    scheduler_.row_done(answer.sequence, row.draws);
    if (answer.sequence.finish != FinishReason::kNone) continue;
    for (const std::int64_t id : std::exchange(answer.siblings, {})) {
      Answer& sibling = *answers_.at(id);
      scheduler_.remove(sibling.sequence, FinishReason::kError);
      send(sibling, {.finish = FinishReason::kError, .error = why});
    }
    scheduler_.remove(answer.sequence, FinishReason::kError);
    send(answer, {.finish = FinishReason::kError, .error = why});
  }
}

void Engine::deliver() {
  for (Drawn& drawn : std::exchange(drawn_, {})) {
    Answer& answer = *answers_.at(drawn.sequence);
    if (answer.sequence.finish == FinishReason::kCancelled) continue;
    try {
      deliver(answer, drawn);
    } catch (const std::exception& error) {  // a token that has no text
      if (answer.sequence.finish == FinishReason::kNone) {
        scheduler_.remove(answer.sequence, FinishReason::kError);
      }
      send(answer, {.finish = FinishReason::kError, .error = error.what()});
    }
  }
  std::erase_if(answers_, [](const auto& entry) {
    const Sequence& s = entry.second->sequence;
    return s.finish != FinishReason::kNone && s.in_flight == 0;
  });
}

void Engine::deliver(Answer& answer, Drawn& drawn) {
  Sequence& s = answer.sequence;
  Output output;
  output.tokens = {drawn.token.token};
  if (s.asked->sampling.logprobs >= 0) {
    output.logprobs.push_back(std::move(drawn.token));
  }
  // A finish by the token, unless its text says stop first.
  const bool last =
      s.finish == FinishReason::kStop || s.finish == FinishReason::kLength;
  output.finish = last ? s.finish : FinishReason::kNone;
  if (answer.text) {
    output.text = answer.text->push(
        output.tokens[0], s.output_tokens() >= s.asked->sampling.min_tokens);
    if (last) output.text += answer.text->finish();
    if (answer.text->stopped()) {
      output.stopped_by = answer.text->stopped_by();
      output.finish = FinishReason::kStop;
      if (s.finish == FinishReason::kNone) {
        scheduler_.remove(s, FinishReason::kStop);
      }
    }
  }
  send(answer, std::move(output));
}

void Engine::send(Answer& answer, Output output) {
  const Sequence& s = answer.sequence;
  if (!s.asked->on_output) return;
  output.request = s.request;
  output.index = s.index;
  output.prompt_tokens = s.prompt_tokens();
  output.cached_tokens = std::max<std::int64_t>(0, s.cached_tokens);
  output.output_tokens = s.output_tokens();
  if (answer.deaf) return;
  try {
    s.asked->on_output(output);
  } catch (...) {  // nobody listens any more
    answer.deaf = true;
    if (s.finish == FinishReason::kNone) {
      scheduler_.remove(answer.sequence, FinishReason::kCancelled);
    }
  }
}

void Engine::publish_stats() {
  const BlockPool& pool = scheduler_.blocks().pool();
  counted_.preemptions = scheduler_.preemptions();
  counted_.running = scheduler_.running();
  counted_.waiting = scheduler_.waiting();
  counted_.blocks = pool.total();
  counted_.blocks_free = pool.free();
  counted_.blocks_cached = pool.kept();
  counted_.sharing = scheduler_.blocks().counters();
  counted_.cached_tokens =
      counted_.sharing.shared * scheduler_.blocks().block_size();
  const std::lock_guard lock(mutex_);
  stats_ = counted_;
  waiting_tokens_ = scheduler_.waiting_tokens();
  inbox_requests_ = inbox_tokens_ = 0;
  for (const Command& command : inbox_) {
    if (command.asked == nullptr) continue;
    ++inbox_requests_;
    inbox_tokens_ +=
        std::ssize(command.asked->prompt) * command.asked->sampling.n;
  }
}

std::vector<const Sequence*> Engine::sequences() const {
  std::vector<const Sequence*> list;
  for (const auto& [id, answer] : answers_) {
    if (answer->sequence.finish == FinishReason::kNone) {
      list.push_back(&answer->sequence);
    }
  }
  return list;
}

EngineStats Engine::stats() const {
  const std::lock_guard lock(mutex_);
  return stats_;
}

}  // namespace dai::paged
