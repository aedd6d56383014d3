// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/trainer/trainer.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <cmath>
#include <stdexcept>
#include <utility>

#include "ch01_intro/memory/memory_ledger.h"
#include "ch01_intro/sync/step_clock.h"
#include "common/errors.h"
#include "common/torch/process_group.h"
#include "common/trace.h"

namespace dai::intro {
namespace {

MicrobatchRange share_of(std::int64_t microbatches, ProcessGroup* group) {
  return microbatches_of_rank(microbatches, group ? group->rank() : 0,
                              group ? group->size() : 1);
}

struct StepTotals {
  double loss = 0, tokens = 0, wishes = 0;
};

// Over the microbatches of all ranks, in the order of their ids, so that a loss
// has the same bits whoever computed it. sums: [microbatches of this rank]. One
// message, since latency is what it costs.
StepTotals sum_in_order(const at::Tensor& sums, std::int64_t tokens, bool wish,
                        ProcessGroup* group) {
  const std::int64_t count = sums.numel();
  at::Tensor mine = at::empty({count + 2}, sums.options().dtype(at::kDouble));
  mine.narrow(0, 0, count).copy_(sums);
  mine.narrow(0, count, 1).fill_(static_cast<double>(tokens));
  mine.narrow(0, count + 1, 1).fill_(wish ? 1 : 0);
  const at::Tensor all = (group ? group->all_gather(mine) : mine).cpu();
  const auto* number = all.const_data_ptr<double>();
  StepTotals totals;
  for (int rank = 0; rank < (group ? group->size() : 1); ++rank) {
    for (std::int64_t i = 0; i < count; ++i) totals.loss += *number++;
    totals.tokens += *number++;
    totals.wishes += *number++;
  }
  return totals;
}

}  // namespace

void TrainerOptions::check() const {
  if (microbatches < 1) {
    throw UsageError(
        fmt::format("{} microbatches a step: at least 1", microbatches));
  }
  if (!(clip_norm >= 0) || !std::isfinite(clip_norm)) {
    throw UsageError(fmt::format(
        "gradient clipping at {}: 0 (off) or a positive norm is expected",
        clip_norm));
  }
  schedule.check();
  adamw.check();
}

Trainer::Trainer(TrainingTask& task, GradientSync& sync, ParameterView& view,
                 ProcessGroup* group, const TrainerOptions& options,
                 at::Device device, MemoryLedger* ledger, Trace* trace)
    : task_(task),
      sync_(sync),
      view_(view),
      group_(group),
      options_((options.check(), options)),
      device_(device),
      ledger_(ledger),
      trace_(trace),
      mine_(share_of(options.microbatches, group)),
      optimizer_(view, options.adamw),
      watch_(options.watch) {}

StepResult Trainer::step() {
  StepResult result;
  result.step = step_;
  result.tokens = task_.tokens_in_step(step_);
  result.learning_rate = learning_rate(options_.schedule, step_);
  if (result.tokens < 1) {
    throw UsageError(fmt::format("step {} has no token to learn from", step_));
  }
  // finish_step() leaves the mean over the microbatches; with this factor it
  // is the sum over all tokens / all tokens.
  const double scale = static_cast<double>(options_.microbatches) /
                       static_cast<double>(result.tokens);
  Trace* const trace = step_ < kTracedSteps ? trace_ : nullptr;
  StepClock clock(device_);
  const auto lap = [&](StepPart part) { result.ms[part] += clock.lap_ms(); };

  at::Tensor sums = at::zeros({mine_.count}, at::TensorOptions(device_));
  std::int64_t tokens = 0;
  sync_.begin_step();
  for (std::int64_t k = 0; k < mine_.count; ++k) {
    const Microbatch microbatch{mine_.first + k, k + 1 == mine_.count};
    lap(kOther);
    {
      TraceSpan span(trace, "data", "step", {{"microbatch", microbatch.id}});
      task_.load(step_, microbatch.id);
      lap(kData);
    }
    at::Tensor scaled;
    {
      MemoryPhase phase(ledger_, "forward", /*saves=*/true);
      TraceSpan span(trace, "forward", "step");
      sync_.before_forward(microbatch);
      Autocast autocast(options_.precision, device_);
      const TokenLoss loss = task_.loss();
      tokens += loss.tokens;
      sums[k].copy_(loss.sum.detach());
      scaled = loss.sum * scale;
      lap(kForward);
    }
    {
      MemoryPhase phase(ledger_, "backward");
      TraceSpan span(trace, "backward", "step");
      sync_.before_backward(microbatch, scaled);
      scaled.backward();
      scaled.reset();  // the graph's last root: saved tensors go here
      lap(kBackward);
    }
    sync_.after_backward(microbatch);
    lap(kAdd);
  }
  {
    MemoryPhase phase(ledger_, "sync");
    TraceSpan span(trace, "sync", "step");
    const SyncTimes spent = sync_.finish_step();
    result.ms[kWait] += spent.wait_ms;
    result.ms[kWire] += spent.wire_ms;
    result.ms[kAdd] += spent.add_ms;
    result.ms[kOther] +=
        clock.lap_ms() - spent.wait_ms - spent.wire_ms - spent.add_ms;
    meet(sums, tokens, result);
    lap(group_ ? kWire : kOther);
  }
  MemoryPhase phase(ledger_, "optimizer");
  TraceSpan span(trace, "optimizer", "step");
  result.gradient_norm = clip_gradients(view_, options_.clip_norm);
  LossWatch::Verdict verdict = watch_.see(result.loss, result.gradient_norm);
  result.updated = verdict.accept;
  result.reason = std::move(verdict.reason);
  if (result.updated) {
    optimizer_.step(result.learning_rate);
  } else if (group_ == nullptr || group_->rank() == 0) {
    spdlog::warn("{}", result.reason);
  }
  lap(kOptimizer);
  ++step_;
  return result;
}

// Where ranks learn of each other's losses. Also where it shows that a task
// promised other tokens than it gave: the gradients would be off by that
// factor, silently.
void Trainer::meet(const at::Tensor& sums, std::int64_t tokens,
                   StepResult& result) {
  const bool wish = stop_wish_ && stop_wish_();
  const StepTotals all = sum_in_order(sums, tokens, wish, group_);
  const std::int64_t promised = task_.tokens_in_step(step_);
  if (all.tokens != static_cast<double>(promised)) {
    throw std::logic_error(
        fmt::format("step {}: the task promised {} tokens and gave {:.0f}",
                    step_, promised, all.tokens));
  }
  result.loss = all.loss / static_cast<double>(promised);
  result.stop_wished = all.wishes > 0;
}

void Trainer::resume(std::span<const double> losses,
                     std::span<const double> gradient_norms) {
  if (step_ != 0 || losses.size() != gradient_norms.size()) {
    throw std::logic_error(
        "Trainer: resume() after a step, or of a history "
        "with a loss and no norm");
  }
  for (std::size_t i = 0; i < losses.size(); ++i) {
    watch_.see(losses[i], gradient_norms[i]);
  }
  step_ = std::ssize(losses);
}

double evaluate(TrainingTask& task, std::int64_t count, ProcessGroup* group,
                Precision precision, at::Device device) {
  const at::NoGradGuard no_grad;
  const MicrobatchRange mine = share_of(count, group);
  at::Tensor sums = at::zeros({mine.count}, at::kDouble);
  std::int64_t tokens = 0;
  for (std::int64_t k = 0; k < mine.count; ++k) {
    task.load(0, mine.first + k);
    Autocast autocast(precision, device);
    const TokenLoss loss = task.loss();
    sums.data_ptr<double>()[k] = loss.sum.item<double>();
    tokens += loss.tokens;
  }
  const StepTotals all =
      sum_in_order(sums.to(device), tokens, /*wish=*/false, group);
  if (all.tokens < 1) {
    throw UsageError("the evaluation has no token to judge");
  }
  return all.loss / all.tokens;
}

}  // namespace dai::intro
