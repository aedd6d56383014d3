// SPDX-License-Identifier: Apache-2.0
#pragma once

// Which tokens of which sequences the next step computes. The rules are those
// of vLLM's v1 scheduler: there is no prefill and no decode phase, only a
// budget of tokens for each step and sequences that have tokens to compute.
//
//   1. Running sequences first, in the policy's order, each as many tokens as
//      it has and the budget allows. One that finds no block preempts the last
//      in that order: its blocks are freed, and it computes its tokens again
//      when its turn comes (most of them are still in the prefix cache).
//   2. Then, unless somebody was preempted, waiting ones: as many as fit, each
//      only if all of its tokens fit into the blocks that are free.
//
// Beyond vLLM's: those that still read their prompts leave a token to each that
// generates, and half of the budget to who waits and could be admitted, so that
// a short request beside a long prompt has its first token after two steps. And
// what several sequences have in common is computed once, even when they arrive
// together: a sequence looks for blocks that others have computed, or compute
// in this step, whenever it comes to the beginning of a block. Tokens deep in a
// prompt, which look back at many, may be counted as more than one, so that a
// step does not grow with the context (context_per_token).
//
// plan() may be called while the step before is being computed: what that step
// draws is a token of value kUnknownToken, which the engine fills in.

#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <vector>

#include "ch06_paged_inference/engine/policy.h"
#include "ch06_paged_inference/engine/step_plan.h"

namespace dai::paged {

inline constexpr std::int32_t kUnknownToken = -1;

struct SchedulerOptions {
  std::int64_t max_step_tokens = 128;  // the budget
  // So many tokens of context cost a prompt's token as much as itself; 0: they
  // cost nothing, as in vLLM.
  std::int64_t context_per_token = 0;
  std::int64_t max_sequences = 64;  // running at once
  double watermark = 0;  // of the blocks, left free when a sequence is admitted
                         // beside others
  bool prefix_caching = true;

  void check() const;  // UsageError
};

class Scheduler {
 public:
  Scheduler(const SchedulerOptions& options, std::int64_t blocks,
            std::int64_t block_size, std::shared_ptr<SchedulingPolicy> policy);

  // The sequence outlives its stay: until remove().
  void add(Sequence& sequence);
  // The next of the n answers, whose prompt `first` has just computed: runs on
  // from there if there is room, and waits otherwise.
  void fork(const Sequence& first, Sequence& next);

  // Empty when nobody has anything to compute, or waits for a step in flight.
  StepPlan plan();
  // A row of a sequence has been computed, or will not be.
  void row_done(Sequence& sequence, bool drew);
  // Ends it, whatever its state: its blocks are free at once, or when its rows
  // in flight are done (kDraining).
  void remove(Sequence& sequence, FinishReason reason);
  // As if memory had run out. False where nobody runs.
  bool preempt_last();
  // Forgets all content that could be shared.
  void reset_prefix_cache();

  std::int64_t waiting() const { return std::ssize(waiting_); }
  std::int64_t running() const { return std::ssize(running_); }
  std::int64_t waiting_tokens() const;
  std::int64_t preemptions() const { return preemptions_; }
  KvBlocks& blocks() { return blocks_; }
  // Of all steps so far: equal arrivals give equal schedules.
  std::uint64_t schedule_hash() const { return hash_; }
  // owned + cached + free = total, references = table entries. Throws
  // std::logic_error.
  void check_ledger() const;

 private:
  struct InOrder {
    const SchedulingPolicy* policy;
    bool operator()(const Sequence* a, const Sequence* b) const {
      if (policy->before(*a, *b)) return true;
      if (policy->before(*b, *a)) return false;
      return a->id < b->id;
    }
  };
  using Queue = std::set<Sequence*, InOrder>;

  struct Budget {
    std::int64_t all = 0, prompts = 0;  // tokens left
  };
  Budget budget() const;
  void plan_running(StepPlan& plan, Budget& budget);
  void plan_waiting(StepPlan& plan, Budget& budget);
  // How many tokens it computes in this step; takes over what is there.
  std::int64_t next_tokens(Sequence& sequence, const StepPlan& plan,
                           std::int64_t most);
  bool fits(const Sequence& sequence, std::int64_t step) const;
  // What `count` tokens of a prompt take of the budget.
  std::int64_t cost(const Sequence& sequence, std::int64_t count) const;
  void add_row(StepPlan& plan, Sequence& sequence, std::int64_t count);
  void preempt(Sequence& sequence);
  void wait(Sequence& sequence);

  SchedulerOptions options_;
  std::shared_ptr<SchedulingPolicy> policy_;
  KvBlocks blocks_;
  std::int64_t watermark_blocks_;
  Queue waiting_, running_;
  std::set<Sequence*> draining_;
  std::int64_t preemptions_ = 0, step_ = 0;
  std::uint64_t hash_ = 0;
  bool preempted_ = false;  // in the step that is being planned
};

}  // namespace dai::paged
