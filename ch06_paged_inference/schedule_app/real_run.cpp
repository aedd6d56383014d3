// SPDX-License-Identifier: Apache-2.0
#include "ch06_paged_inference/schedule_app/real_run.h"

#include <algorithm>
#include <chrono>
#include <stdexcept>
#include <thread>
#include <utility>

#include "ch01_intro/counter_random.h"
#include "common/timer.h"

namespace dai::paged {
namespace {

std::vector<std::int32_t> random_tokens(std::int64_t count,
                                        std::uint64_t stream,
                                        std::int64_t vocab_size) {
  std::vector<std::int32_t> tokens;
  for (std::int64_t i = 0; i < count; ++i) {
    const std::uint64_t random =
        intro::mix64((stream << 32) ^ static_cast<std::uint64_t>(i));
    tokens.push_back(static_cast<std::int32_t>(
        random % static_cast<std::uint64_t>(vocab_size)));
  }
  return tokens;
}

// A prompt and a token, so that nobody waits for what is done once: generated
// kernels, memory for intermediate values.
void warm_up(Engine& engine, std::int64_t vocab_size) {
  const std::int64_t most =
      std::min<std::int64_t>(256, engine.max_length() - 2);
  engine.submit({.prompt = random_tokens(most, 0xffffffff, vocab_size),
                 .sampling = {.max_tokens = 2, .ignore_eos = true}});
  while (engine.step()) {
  }
}

class Clients {
 public:
  Clients(const std::vector<TimedRequest>& trace, Engine& engine,
          std::int64_t vocab_size)
      : trace_(trace),
        engine_(engine),
        vocab_(vocab_size),
        steps_before_(engine.stats().steps) {}

  bool done() const { return next_ == trace_.size() && open_ == 0; }
  bool idle() const { return open_ == 0; }
  std::size_t arrived() const {  // and not submitted yet
    std::size_t n = next_;
    while (n < trace_.size() && trace_[n].arrival_ms <= clock_.ms()) ++n;
    return n - next_;
  }
  void wait_for_arrival() const {
    const double ms = trace_.at(next_).arrival_ms - clock_.ms();
    std::this_thread::sleep_for(std::chrono::duration<double, std::milli>(ms));
  }

  void submit(std::size_t n) {
    for (; n > 0; --n, ++next_) {
      const TimedRequest& asked = trace_[next_];
      run_.requests.push_back({asked.arrival_ms, 0, 0, asked.output});
      Request request;
      request.prompt = random_tokens(asked.prompt, next_, vocab_);
      request.priority = asked.priority;
      request.sampling.temperature = 0;
      request.sampling.ignore_eos = true;
      request.sampling.max_tokens = asked.output;
      request.on_output = [this, at = next_](const Output& o) { note(at, o); };
      engine_.submit(std::move(request));
      ++open_;
    }
  }

  void step() {
    const WallTimer timer;
    engine_.step();
    step_ms_.push_back(timer.ms());
    run_.longest_step_ms = std::max(run_.longest_step_ms, step_ms_.back());
    if (!error_.empty()) throw std::runtime_error(error_);
  }

  const std::vector<double>& step_ms() const { return step_ms_; }
  ServedTrace take() {
    run_.end_ms = clock_.ms();
    run_.steps = engine_.stats().steps - steps_before_;
    run_.preemptions = engine_.stats().preemptions;
    return run_;
  }

 private:
  void note(std::size_t at, const Output& output) {
    ServedRequest& served = run_.requests[at];
    if (output.output_tokens == 1) served.first_ms = clock_.ms();
    if (output.finish == FinishReason::kNone) return;
    if (output.finish == FinishReason::kError) error_ = output.error;
    served.end_ms = clock_.ms();
    --open_;
  }

  const std::vector<TimedRequest>& trace_;
  Engine& engine_;
  std::int64_t vocab_, steps_before_;
  WallTimer clock_;
  std::size_t next_ = 0, open_ = 0;
  std::string error_;
  std::vector<double> step_ms_;
  ServedTrace run_;
};

}  // namespace

ServedTrace serve_really(const std::vector<TimedRequest>& trace, Engine& engine,
                         std::int64_t vocab_size, std::int64_t batch,
                         std::vector<double>* step_ms) {
  warm_up(engine, vocab_size);
  Clients clients(trace, engine, vocab_size);
  while (!clients.done()) {
    if (clients.idle()) clients.wait_for_arrival();
    if (batch == 0) {
      clients.submit(clients.arrived());
    } else if (clients.idle()) {
      clients.submit(
          std::min(clients.arrived(), static_cast<std::size_t>(batch)));
    }
    if (!clients.idle()) clients.step();
  }
  if (step_ms != nullptr) *step_ms = clients.step_ms();
  return clients.take();
}

}  // namespace dai::paged
