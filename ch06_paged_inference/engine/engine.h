// SPDX-License-Identifier: Apache-2.0
#pragma once

// Requests in, answers out, step by step: schedule, run, draw, deliver.
//
//   Engine engine({.scheduler = {.max_step_tokens = 128}}, runner, text);
//   engine.submit({.prompt = ids, .on_output = print});
//   while (engine.step()) {}
//
// submit(), cancel() and stats() may be called by any thread; step() by one,
// which also calls on_output: an answer whose on_output throws is cancelled.
// Nobody is woken by submit(): whoever sleeps between steps wakes himself.
// With `asynchronous`, a step is planned and the
// answers of the step before are delivered while the runner computes: what is
// drawn is the same, and a sequence that a stop string ends has at most one
// token computed in vain.

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "ch06_paged_inference/engine/inbox.h"
#include "ch06_paged_inference/engine/model_runner.h"
#include "ch06_paged_inference/engine/sampler.h"
#include "ch06_paged_inference/engine/scheduler.h"
#include "ch06_paged_inference/engine/step_thread.h"
#include "ch06_paged_inference/text/output_text.h"

namespace dai::paged {

struct EngineOptions {
  SchedulerOptions scheduler = {};
  std::shared_ptr<SchedulingPolicy> policy =
      std::make_shared<FirstComeFirstServed>();
  std::int64_t max_length = 0;  // tokens of a sequence; 0: what the model has
  std::int64_t max_waiting = 1024;            // answers
  std::int64_t max_waiting_tokens = 1 << 22;  // of their prompts
  bool asynchronous = true;
  std::uint64_t seed = 1234;
  std::vector<std::int32_t> end_ids = {};  // what ends an answer: eos
#ifdef NDEBUG
  bool check_ledger = false;  // at every step
#else
  bool check_ledger = true;
#endif
  std::function<double()> now = {};  // seconds; empty: the machine's clock
  bool record_arrivals = false;
};

struct EngineStats {
  // cached_tokens: of blocks that were shared, after preemptions as well.
  std::int64_t steps = 0, computed_tokens = 0, cached_tokens = 0;
  std::int64_t generated_tokens = 0, preemptions = 0;
  std::int64_t running = 0, waiting = 0;                        // sequences
  std::int64_t blocks = 0, blocks_free = 0, blocks_cached = 0;  // of the free
  KvBlocks::Counters sharing;
};

// When the engine took what: the same log gives the same schedule.
struct Arrival {
  std::int64_t step = 0;  // steps planned before
  std::int64_t request = 0;
  bool cancel = false;
};

class Engine {
 public:
  // Both outlive the engine. Without a tokenizer outputs have no text.
  Engine(EngineOptions options, ModelRunner& runner,
         const intro::Tokenizer* tokenizer = nullptr);

  // Throws UsageError for what can never run, AdmissionRefused for what cannot
  // now. The request's number.
  std::int64_t submit(Request request);
  // Unknown or over: nothing happens.
  void cancel(std::int64_t request) { inbox_.cancel(request); }

  // False when all is done until somebody submits something.
  bool step();
  // Tokens that fit into one sequence, prompt and answer.
  std::int64_t max_length() const { return max_length_; }
  EngineStats stats() const;

  // For step()'s thread alone.
  Scheduler& scheduler() { return scheduler_; }
  // Those that are not over, in the order of their arrival.
  std::vector<const Sequence*> sequences() const;
  const std::vector<Arrival>& arrivals() const { return arrivals_; }
  // Called with each plan before it runs.
  void watch(std::function<void(const StepPlan&)> watcher) {
    watcher_ = std::move(watcher);
  }

 private:
  struct Answer {  // a sequence and its text
    Sequence sequence;
    std::optional<OutputText> text;
    std::vector<std::int64_t> siblings;  // of the first of n
    bool deaf = false;                   // its on_output has thrown
  };
  struct Drawn {
    std::int64_t sequence = 0;
    TokenLogprob token;
  };
  struct Flight {
    StepPlan plan;
    std::vector<float> logits;
  };

  void take_inbox();
  void start_request(const Inbox::Command& command);
  // Unless it is over.
  void end(Answer& answer, FinishReason reason, const std::string& why = {});
  void launch(StepPlan plan);
  void land(StepPlan* next);
  void draw(const Flight& flight);
  void draw_row(Answer& answer, std::span<const float> logits);
  FinishReason finish_after(const Sequence& sequence) const;
  void fill(StepPlan& next);
  void fail(const StepPlan& plan, const std::string& why);
  void deliver();
  void deliver(Answer& answer, Drawn& drawn);
  void send(Answer& answer, Output output);
  void publish_stats();

  EngineOptions options_;
  ModelRunner& runner_;
  const intro::Tokenizer* tokenizer_;
  Scheduler scheduler_;
  Sampler sampler_;
  std::int64_t max_length_ = 0;
  std::map<std::int64_t, std::unique_ptr<Answer>> answers_;  // by sequence
  std::int64_t next_sequence_ = 0;
  std::optional<Flight> flight_;
  int idle_steps_ = 0;
  std::vector<Drawn> drawn_;  // not delivered yet
  std::vector<Arrival> arrivals_;
  std::function<void(const StepPlan&)> watcher_;
  EngineStats counted_;  // step()'s own
  mutable std::mutex stats_mutex_;
  EngineStats stats_;  // of the last step
  Inbox inbox_;
  StepThread thread_;  // the last member: its job uses others
};

}  // namespace dai::paged
