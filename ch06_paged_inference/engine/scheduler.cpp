// SPDX-License-Identifier: Apache-2.0
#include "ch06_paged_inference/engine/scheduler.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <utility>

#include "common/errors.h"

namespace dai::paged {

void SchedulerOptions::check() const {
  if (max_step_tokens < 1 || context_per_token < 0 || max_sequences < 1 ||
      !(watermark >= 0) || watermark >= 1) {
    throw UsageError(fmt::format(
        "a step of {} tokens, {} sequences, a watermark of {}: at least 1, at "
        "least 1, and in [0, 1) are accepted",
        max_step_tokens, max_sequences, watermark));
  }
}

Scheduler::Scheduler(const SchedulerOptions& options, std::int64_t blocks,
                     std::int64_t block_size,
                     std::shared_ptr<SchedulingPolicy> policy)
    : options_(options),
      policy_(std::move(policy)),
      blocks_(blocks, block_size, options.prefix_caching),
      watermark_blocks_(
          std::llround(options.watermark * static_cast<double>(blocks))),
      waiting_(InOrder{policy_.get()}),
      running_(InOrder{policy_.get()}) {
  options_.check();
}

void Scheduler::wait(Sequence& sequence) {
  sequence.state = SequenceState::kWaiting;
  waiting_.insert(&sequence);
}

void Scheduler::add(Sequence& sequence) {
  sequence.table = blocks_.empty_table(sequence.asked->cache_salt);
  wait(sequence);
}

void Scheduler::fork(const Sequence& first, Sequence& next) {
  const std::int64_t prompt = next.prompt_tokens();
  if (running() >= options_.max_sequences ||
      std::ssize(first.table.blocks) < blocks_.blocks_for(prompt)) {
    return add(next);
  }
  next.table = blocks_.fork(first.table, prompt);
  next.planned = prompt;
  next.cached_tokens = prompt;
  next.state = SequenceState::kRunning;
  running_.insert(&next);
}

StepPlan Scheduler::plan() {
  StepPlan plan;
  plan.step = ++step_;
  plan.block_size = blocks_.block_size();
  preempted_ = false;
  Budget budget = this->budget();
  plan_running(plan, budget);
  if (!preempted_) plan_waiting(plan, budget);
  if (!plan.empty()) hash_ = plan.hash(hash_);
  return plan;
}

Scheduler::Budget Scheduler::budget() const {
  Budget budget{options_.max_step_tokens, options_.max_step_tokens};
  for (const Sequence* sequence : running_) {
    if (sequence->length() - sequence->planned == 1) --budget.prompts;
  }
  const bool admits = !waiting_.empty() && running() < options_.max_sequences &&
                      fits(**waiting_.begin(), step_);
  if (admits) budget.prompts /= 2;
  budget.prompts = std::max<std::int64_t>(1, budget.prompts);
  return budget;
}

std::int64_t Scheduler::cost(const Sequence& sequence,
                             std::int64_t count) const {
  const std::int64_t per_token = options_.context_per_token;
  return count + (per_token > 0 ? count * sequence.planned / per_token : 0);
}

std::int64_t Scheduler::next_tokens(Sequence& sequence, const StepPlan& plan,
                                    std::int64_t most) {
  const std::int64_t size = blocks_.block_size();
  if (sequence.length() - sequence.planned > 1 &&
      sequence.planned % size == 0) {
    blocks_.share_prefix(sequence.table, sequence.tokens, plan.step);
    // The last token is computed even where its block is there: its logits
    // are not.
    sequence.planned = std::max(
        sequence.planned,
        std::min(sequence.table.published() * size, sequence.length() - 1));
    if (blocks_.find_prefix(sequence.table, sequence.tokens, plan.step)
            .pending) {
      return 0;  // somebody is at it
    }
  }
  const std::int64_t left = sequence.length() - sequence.planned;
  if (const std::int64_t per_token = options_.context_per_token;
      per_token > 0 && left > 1) {
    most = std::max<std::int64_t>(
        1, most * per_token / (per_token + sequence.planned));
  }
  if (left <= most) return left;
  // A chunk ends with a block, so that the block can be shared.
  const std::int64_t aligned =
      (sequence.planned + most) / size * size - sequence.planned;
  return aligned > 0 ? aligned : most;
}

void Scheduler::plan_running(StepPlan& plan, Budget& budget) {
  // Preemption takes from the end, never what has its row already.
  const std::vector<Sequence*> order(running_.begin(), running_.end());
  for (Sequence* sequence : order) {
    if (budget.all == 0) return;
    if (sequence->state != SequenceState::kRunning) return;  // preempted
    if (sequence->length() >= sequence->limit) continue;  // its last is drawn
    const bool prompt = sequence->length() - sequence->planned > 1;
    const std::int64_t most = prompt ? budget.prompts : budget.all;
    if (most == 0) continue;
    const std::int64_t count = next_tokens(*sequence, plan, most);
    if (count == 0) continue;
    while (!blocks_.grow(sequence->table, sequence->planned,
                         sequence->planned + count, plan.copies)) {
      Sequence* last = *running_.rbegin();
      preempt(*last);
      if (last == sequence) return;
    }
    const std::int64_t spent =
        prompt ? std::min(most, cost(*sequence, count)) : count;
    budget.all -= spent;
    budget.prompts =
        std::min(budget.all, budget.prompts - (prompt ? spent : 0));
    add_row(plan, *sequence, count);
  }
}

bool Scheduler::fits(const Sequence& sequence, std::int64_t step) const {
  const KvBlocks::Found found =
      blocks_.find_prefix(sequence.table, sequence.tokens, step);
  // What is shared need not be taken, unless it is free at present; of a
  // prompt that is there as a whole the last block is copied.
  const std::int64_t there = std::ssize(found.blocks);
  const bool whole = there * blocks_.block_size() >= sequence.length();
  const std::int64_t needed = blocks_.blocks_for(sequence.length()) - there +
                              found.idle + (whole ? 1 : 0);
  return needed + (running_.empty() ? 0 : watermark_blocks_) <=
         blocks_.pool().free();
}

void Scheduler::plan_waiting(StepPlan& plan, Budget& budget) {
  for (auto at = waiting_.begin(); at != waiting_.end() && budget.all > 0;) {
    Sequence& sequence = **at++;
    if (running() >= options_.max_sequences) return;
    if (sequence.drawing > 0) continue;  // preempted; its token is on its way
    if (blocks_.find_prefix(sequence.table, sequence.tokens, plan.step)
            .pending) {
      continue;  // what it would compute, somebody computes
    }
    if (!fits(sequence, plan.step)) return;  // nobody overtakes it
    const std::int64_t count = next_tokens(sequence, plan, budget.all);
    if (sequence.cached_tokens < 0) sequence.cached_tokens = sequence.planned;
    if (!blocks_.grow(sequence.table, sequence.planned,
                      sequence.planned + count, plan.copies)) {
      throw std::logic_error("a sequence that fits does not");
    }
    waiting_.erase(&sequence);
    sequence.state = SequenceState::kRunning;
    running_.insert(&sequence);
    budget.all -= std::min(budget.all, cost(sequence, count));
    add_row(plan, sequence, count);
  }
}

void Scheduler::add_row(StepPlan& plan, Sequence& sequence,
                        std::int64_t count) {
  PlanRow row;
  row.sequence = sequence.id;
  row.first = std::ssize(plan.tokens);
  row.count = count;
  row.position = sequence.planned;
  row.table = std::ssize(plan.block_tables);
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t position = sequence.planned + i;
    plan.tokens.push_back(
        position < std::ssize(sequence.tokens)
            ? sequence.tokens[static_cast<std::size_t>(position)]
            : kUnknownToken);
  }
  sequence.planned += count;
  blocks_.publish(sequence.table, sequence.tokens, sequence.planned, plan.step);
  row.draws = sequence.planned == sequence.length();
  sequence.drawing += row.draws ? 1 : 0;
  ++sequence.in_flight;
  const auto& blocks = sequence.table.blocks;
  row.blocks = blocks_.blocks_for(sequence.planned);
  plan.block_tables.insert(plan.block_tables.end(), blocks.begin(),
                           blocks.begin() + row.blocks);
  plan.rows.push_back(row);
}

void Scheduler::preempt(Sequence& sequence) {
  running_.erase(&sequence);
  blocks_.release(sequence.table);
  sequence.planned = 0;
  ++sequence.preemptions;
  ++preemptions_;
  preempted_ = true;
  wait(sequence);
}

void Scheduler::row_done(Sequence& sequence, bool drew) {
  --sequence.in_flight;
  sequence.drawing -= drew ? 1 : 0;
  if (sequence.state == SequenceState::kDraining && sequence.in_flight == 0) {
    draining_.erase(&sequence);
    blocks_.release(sequence.table);
    sequence.state = SequenceState::kFinished;
  }
}

bool Scheduler::preempt_last() {
  if (running_.empty()) return false;
  preempt(**running_.rbegin());
  return true;
}

void Scheduler::remove(Sequence& sequence, FinishReason reason) {
  if (sequence.state == SequenceState::kWaiting) waiting_.erase(&sequence);
  if (sequence.state == SequenceState::kRunning) {
    running_.erase(&sequence);
    if (reason != FinishReason::kError) {
      // A row that is planned for the last token may yet be dropped.
      blocks_.publish(
          sequence.table, sequence.tokens,
          std::min(sequence.planned, std::ssize(sequence.tokens) - 1), step_);
    }
  }
  sequence.finish = reason;
  if (sequence.in_flight > 0) {
    sequence.state = SequenceState::kDraining;
    draining_.insert(&sequence);
  } else {
    blocks_.release(sequence.table);
    sequence.state = SequenceState::kFinished;
  }
}

std::int64_t Scheduler::waiting_tokens() const {
  std::int64_t tokens = 0;
  for (const Sequence* sequence : waiting_) {
    tokens += std::ssize(sequence->tokens);
  }
  return tokens;
}

void Scheduler::reset_prefix_cache() {
  blocks_.cache().clear();
  for (Sequence* sequence : running_) sequence->table.publishes = false;
  for (Sequence* sequence : draining_) sequence->table.publishes = false;
}

void Scheduler::check_ledger() const {
  std::vector<const BlockTable*> tables;
  for (const Sequence* sequence : running_) tables.push_back(&sequence->table);
  for (const Sequence* sequence : draining_) tables.push_back(&sequence->table);
  for (const Sequence* sequence : waiting_) {
    if (!sequence->table.blocks.empty()) {
      throw std::logic_error("a sequence waits and holds blocks");
    }
  }
  blocks_.check(tables);
}

}  // namespace dai::paged
