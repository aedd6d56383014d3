// SPDX-License-Identifier: Apache-2.0
#include "ch06_paged_inference/engine/engine.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "common/errors.h"
#include "common/timer.h"

namespace dai::paged {
namespace {

void check_id(std::int32_t id, std::int64_t vocab) {
  if (id < 0 || id >= vocab) {
    throw UsageError(
        fmt::format("token id {} is not in the vocabulary of {}", id, vocab));
  }
}

// Of the exception that is being handled, whatever it is.
std::string reason() {
  try {
    throw;
  } catch (const std::exception& error) {
    return error.what();
  } catch (...) {
    return "an exception of no known type";
  }
}

}  // namespace

Engine::Engine(EngineOptions options, ModelRunner& runner,
               const intro::Tokenizer* tokenizer)
    : options_(std::move(options)),
      runner_(runner),
      tokenizer_(tokenizer),
      scheduler_(options_.scheduler, runner.kv_blocks(), runner.block_size(),
                 options_.policy),
      sampler_(runner.vocab_size(), options_.seed),
      inbox_({options_.max_waiting, options_.max_waiting_tokens}),
      thread_(options_.asynchronous) {
  if (!options_.now) options_.now = [] { return steady_us() / 1e6; };
  // One block stays for a copy, so that a sequence that is alone always fits.
  max_length_ = std::min(runner.max_positions(),
                         (runner.kv_blocks() - 1) * runner.block_size());
  if (options_.max_length > 0) {
    max_length_ = std::min(max_length_, options_.max_length);
  }
  for (const auto id : options_.end_ids) check_id(id, runner.vocab_size());
  if (max_length_ < 2) {
    throw UsageError("the KV cache has no room for a prompt and an answer");
  }
  publish_stats();
}

std::int64_t Engine::submit(Request request) {
  request.sampling.check(runner_.vocab_size());
  const std::int64_t prompt = std::ssize(request.prompt);
  if (prompt < 1 || prompt >= max_length_) {
    throw UsageError(fmt::format("a prompt of {} tokens: 1 to {} are accepted",
                                 prompt, max_length_ - 1));
  }
  for (const auto id : request.prompt) check_id(id, runner_.vocab_size());
  const std::int64_t n = request.sampling.n;
  if (n > options_.max_waiting || prompt * n > options_.max_waiting_tokens) {
    throw UsageError(fmt::format(
        "{} answers to {} tokens: more than may ever wait", n, prompt));
  }
  if (!request.sampling.stop.empty() && tokenizer_ == nullptr) {
    throw UsageError("stop strings need a tokenizer");
  }
  return inbox_.submit(std::move(request));
}

void Engine::take_inbox() {
  for (const Inbox::Command& command : inbox_.take()) {
    if (options_.record_arrivals) {
      arrivals_.push_back(
          {counted_.steps, command.request, command.asked == nullptr});
    }
    if (command.asked != nullptr) {
      start_request(command);
      continue;
    }
    for (const auto& [id, answer] : answers_) {
      if (answer->sequence.request == command.request) {
        end(*answer, FinishReason::kCancelled);
      }
    }
  }
  publish_stats();
}

void Engine::start_request(const Inbox::Command& command) {
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

void Engine::end(Answer& answer, FinishReason reason, const std::string& why) {
  if (answer.sequence.finish != FinishReason::kNone) return;
  scheduler_.remove(answer.sequence, reason);
  send(answer, {.finish = reason, .error = why});
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
  thread_.start([this] { runner_.run(flight_->plan, flight_->logits); });
}

void Engine::land(StepPlan* next) {
  std::optional<std::string> failure;
  try {
    thread_.wait();
  } catch (...) {
    failure = reason();
  }
  const Flight flight = *std::exchange(flight_, std::nullopt);
  if (!failure) {
    draw(flight);
    if (next != nullptr) fill(*next);
    return;
  }
  fail(flight.plan, *failure);
  if (next != nullptr) {
    for (const PlanRow& row : next->rows) {
      scheduler_.row_done(answers_.at(row.sequence)->sequence, row.draws);
    }
    *next = {};
  }
  // Blocks that the step was to fill hold nothing, and others share them: all
  // begin again.
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

// The token that comes next. For the first of n answers also that of the
// others, which go on from its prompt: before it can end and give up its
// blocks.
void Engine::draw_row(Answer& answer, std::span<const float> logits) {
  std::vector<Answer*> group;
  for (const std::int64_t id : std::exchange(answer.siblings, {})) {
    group.push_back(answers_.at(id).get());
  }
  group.push_back(&answer);
  for (Answer* one : group) {
    std::vector<float> own(logits.begin(), logits.end());
    Sequence& s = one->sequence;
    try {
      TokenLogprob token = sampler_.draw(s, own, options_.end_ids);
      s.tokens.push_back(token.token);
      drawn_.push_back({s.id, std::move(token)});
      ++counted_.generated_tokens;
      const FinishReason reason = finish_after(s);
      if (reason != FinishReason::kNone) {
        scheduler_.remove(s, reason);
      } else if (one != &answer) {
        scheduler_.fork(answer.sequence, s);
      }
    } catch (...) {
      end(*one, FinishReason::kError, reason());
    }
  }
}

FinishReason Engine::finish_after(const Sequence& s) const {
  const SamplingParams& p = s.asked->sampling;
  const std::int32_t last = s.tokens.back();
  if ((!p.ignore_eos && std::ranges::count(options_.end_ids, last) > 0) ||
      std::ranges::count(p.stop_ids, last) > 0) {
    return FinishReason::kStop;
  }
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
    std::int32_t& last =
        next.tokens[static_cast<std::size_t>(row.first + row.count - 1)];
    if (last == kUnknownToken) last = s.tokens.back();
  }
}

void Engine::fail(const StepPlan& plan, const std::string& why) {
  for (const PlanRow& row : plan.rows) {
    Answer& answer = *answers_.at(row.sequence);
    scheduler_.row_done(answer.sequence, row.draws);
    for (const std::int64_t id : std::exchange(answer.siblings, {})) {
      end(*answers_.at(id), FinishReason::kError, why);
    }
    end(answer, FinishReason::kError, why);
  }
}

void Engine::deliver() {
  for (Drawn& drawn : std::exchange(drawn_, {})) {
    Answer& answer = *answers_.at(drawn.sequence);
    if (answer.sequence.finish == FinishReason::kCancelled) continue;
    try {
      deliver(answer, drawn);
    } catch (...) {  // a token that has no text
      if (answer.sequence.finish == FinishReason::kNone) {
        scheduler_.remove(answer.sequence, FinishReason::kError);
      }
      send(answer, {.finish = FinishReason::kError, .error = reason()});
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
  Inbox::Load waits{scheduler_.waiting(), scheduler_.waiting_tokens()};
  for (const auto& [id, answer] : answers_) {
    if (answer->sequence.state != SequenceState::kForked) continue;
    ++waits.answers;
    waits.tokens += std::ssize(answer->sequence.tokens);
  }
  counted_.waiting = waits.answers;
  counted_.blocks = pool.total();
  counted_.blocks_free = pool.free();
  counted_.blocks_cached = pool.kept();
  counted_.sharing = scheduler_.blocks().counters();
  counted_.cached_tokens =
      counted_.sharing.shared * scheduler_.blocks().block_size();
  inbox_.set_taken(waits);
  const std::lock_guard lock(stats_mutex_);
  stats_ = counted_;
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
  const std::lock_guard lock(stats_mutex_);
  return stats_;
}

}  // namespace dai::paged
