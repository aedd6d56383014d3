// SPDX-License-Identifier: Apache-2.0
#include "tests/ch06_paged_inference/support/engine_life.h"

#include <fmt/format.h>

#include <atomic>
#include <map>
#include <mutex>
#include <set>
#include <stdexcept>
#include <string>

#include "ch06_paged_inference/engine/engine.h"
#include "tests/ch06_paged_inference/support/pretend_runner.h"

namespace dai::paged {
namespace {

constexpr std::int64_t kVocab = 12;  // small: answers often agree
const std::vector<std::int32_t> kEnds = {11};

class Life {
 public:
  explicit Life(Choices& choices)
      : choices_(choices),
        runner_(8 + pick(12), std::int64_t{1} << pick(4), kVocab),
        engine_(options(), runner_) {
    runner_.before = [this](const StepPlan& plan) {
      if (!fail_next_.exchange(false)) return;
      const std::lock_guard lock(mutex_);
      for (const PlanRow& row : plan.rows) failed_.insert(row.sequence);
      throw std::runtime_error("failed");
    };
  }

  LifeSummary run(std::int64_t operations) {
    while (done_.operations < operations && !choices_.over()) operate();
    while (engine_.step()) count_step();
    want(wrong_.empty(), wrong_.c_str());
    engine_.scheduler().check_ledger();
    const EngineStats stats = engine_.stats();
    want(stats.blocks_free == stats.blocks, "a block leaked");
    want(stats.running + stats.waiting == 0, "a sequence was left behind");
    want(live_.empty(), "a request was never answered");
    done_.preemptions = stats.preemptions;
    done_.evicted = stats.sharing.evicted;
    done_.copied = stats.sharing.copied;
    done_.deduplicated = stats.sharing.deduplicated;
    done_.shared = stats.sharing.shared;
    return done_;
  }

 private:
  struct Asked {
    Request request;
    std::map<std::int64_t, std::vector<std::int32_t>> answers;
    std::int64_t unfinished = 0, first_sequence = 0;
  };

  static void want(bool good, const char* what) {
    if (!good) throw std::logic_error(what);
  }
  std::int64_t pick(std::int64_t n) {
    return static_cast<std::int64_t>(
        choices_.below(static_cast<std::uint64_t>(n)));
  }

  EngineOptions options() {
    EngineOptions options;
    options.scheduler.max_step_tokens = 1 + pick(24);
    options.scheduler.context_per_token = pick(3) == 0 ? 1 + pick(20) : 0;
    options.scheduler.max_sequences = 1 + pick(6);
    options.scheduler.watermark = pick(3) * 0.1;
    options.scheduler.prefix_caching = pick(4) != 0;
    options.asynchronous = pick(4) == 0;
    if (pick(2) == 0) options.policy = scheduling_policy("priority");
    options.max_waiting = 8;
    options.end_ids = kEnds;
    options.check_ledger = true;
    return options;
  }

  void count_step() {
    ++done_.steps;
    ++done_.operations;
    want(++quiet_ < 20000, "nothing has finished for 20,000 steps");
    want(wrong_.empty(), wrong_.c_str());
  }

  void operate() {
    ++done_.operations;
    switch (pick(16)) {
      case 0:
      case 1:
      case 2:
        return submit();
      case 3:
        return engine_.cancel(pick(next_ + 2));
      case 4:
        if (pick(4) == 0) engine_.scheduler().preempt_last();
        return;
      case 5:
        if (pick(40) == 0) engine_.scheduler().reset_prefix_cache();
        return;
      case 6:
        if (pick(40) == 0) fail_next_ = true;
        return;
      default:
        engine_.step();
        return count_step();
    }
  }

  void submit() {
    Request request;
    const std::int64_t family = pick(3), length = 1 + pick(24);
    for (std::int64_t i = 0; i < length; ++i) {
      request.prompt.push_back(
          static_cast<std::int32_t>((i * (family + 2) + family) % kVocab));
    }
    if (pick(3) == 0)
      request.prompt.back() = static_cast<std::int32_t>(pick(11));
    SamplingParams& p = request.sampling;
    p.temperature = pick(2) == 0 ? 0 : 0.8;
    if (pick(3) == 0) p.seed = static_cast<std::uint64_t>(pick(3));
    p.max_tokens = 1 + pick(20);
    p.ignore_eos = pick(3) == 0;
    p.n = pick(4) == 0 ? 1 + pick(4) : 1;
    request.priority = pick(3);
    if (pick(5) == 0) request.cache_salt = "other";
    request.on_output = [this](const Output& output) {
      try {
        hear(output);
      } catch (const std::exception& error) {  // the engine would swallow it
        if (wrong_.empty()) wrong_ = error.what();
      }
    };
    try {
      const std::int64_t number = engine_.submit(request);
      live_[number] = {request, {}, p.n, next_sequence_};
      next_sequence_ += p.n;
      next_ = number + 1;
    } catch (const std::runtime_error&) {  // too long, or too many
    }
  }

  void hear(const Output& output) {
    Asked& asked = live_.at(output.request);
    std::vector<std::int32_t>& answer = asked.answers[output.index];
    answer.insert(answer.end(), output.tokens.begin(), output.tokens.end());
    if (output.finish == FinishReason::kNone) return;
    quiet_ = 0;
    if (output.finish == FinishReason::kCancelled) {
      ++done_.cancelled;
    } else if (output.finish == FinishReason::kError) {
      ++done_.failed;
      const std::lock_guard lock(mutex_);
      const auto in_it = failed_.lower_bound(asked.first_sequence);
      want(in_it != failed_.end() &&
               *in_it < asked.first_sequence + asked.request.sampling.n,
           "a request failed that was in no failing step");
    } else {
      ++done_.finished;
      if (answer != reference_answer(asked.request, output.request,
                                     output.index, kVocab, engine_.max_length(),
                                     kEnds)) {
        throw std::logic_error(fmt::format("answer {} to request {} differs",
                                           output.index, output.request));
      }
    }
    if (--asked.unfinished == 0) live_.erase(output.request);
  }

  Choices& choices_;
  PretendRunner runner_;
  Engine engine_;
  std::map<std::int64_t, Asked> live_;
  std::int64_t next_ = 0, next_sequence_ = 0, quiet_ = 0;
  std::string wrong_;  // what was heard and should not be
  std::mutex mutex_;
  std::set<std::int64_t> failed_;  // sequences with a row in a failing step
  std::atomic<bool> fail_next_{false};  // read by the engine's own thread
  LifeSummary done_;
};

}  // namespace

std::uint64_t Choices::below(std::uint64_t n) {
  if (!from_bytes_) return random_() % n;
  return at_ < bytes_.size() ? bytes_[at_++] % n : 0;
}

LifeSummary live(Choices& choices, std::int64_t operations) {
  return Life(choices).run(operations);
}

}  // namespace dai::paged
