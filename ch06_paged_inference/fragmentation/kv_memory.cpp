// SPDX-License-Identifier: Apache-2.0
#include "ch06_paged_inference/fragmentation/kv_memory.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <deque>
#include <memory>
#include <numbers>
#include <stdexcept>

#include "ch01_intro/counter_random.h"
#include "ch06_paged_inference/engine/scheduler.h"
#include "common/errors.h"

namespace dai::paged {
namespace {

// exp(N(m, s^2)) of that mean: one value of stream `key`.
double log_normal(double mean, double sigma, std::uint64_t key,
                  std::uint64_t at) {
  const double u = std::max(intro::uniform01(key, 2 * at), 0x1p-25F);
  const double v = intro::uniform01(key, 2 * at + 1);
  const double normal =
      std::sqrt(-2 * std::log(u)) * std::cos(2 * std::numbers::pi * v);
  return mean * std::exp(sigma * normal - sigma * sigma / 2);
}

// Sums over steps, turned into means.
class Means {
 public:
  explicit Means(double slots) { use_.slots = slots; }
  void add(double tokens, double later, double never, std::int64_t batch) {
    use_.tokens += tokens;
    use_.later += later;
    use_.never += never;
    use_.batch += static_cast<double>(batch);
    use_.most = std::max(use_.most, batch);
    use_.batches.push_back(batch);
  }
  MemoryUse take(std::int64_t preemptions) {
    const auto steps =
        static_cast<double>(std::max<std::size_t>(1, use_.batches.size()));
    for (double* sum : {&use_.tokens, &use_.later, &use_.never, &use_.batch}) {
      *sum /= steps;
    }
    use_.preemptions = preemptions;
    return use_;
  }

 private:
  MemoryUse use_;
};

}  // namespace

std::vector<RequestLengths> lengths_like_chats(std::int64_t requests,
                                               std::int64_t max_length,
                                               std::uint64_t seed) {
  const std::uint64_t prompts = intro::stream_key(seed, "prompts");
  const std::uint64_t outputs = intro::stream_key(seed, "outputs");
  std::vector<RequestLengths> trace;
  for (std::int64_t i = 0; i < requests; ++i) {
    const auto at = static_cast<std::uint64_t>(i);
    const auto draw = [&](double mean, std::uint64_t key) {
      return std::max<std::int64_t>(1,
                                    std::llround(log_normal(mean, 1, key, at)));
    };
    RequestLengths lengths;
    lengths.prompt = std::min(draw(161, prompts), max_length - 1);
    lengths.output = std::min(draw(338, outputs), max_length - lengths.prompt);
    trace.push_back(lengths);
  }
  return trace;
}

MemoryUse serve_paged(const std::vector<RequestLengths>& trace,
                      std::int64_t slots, std::int64_t block_size,
                      double watermark) {
  if (slots < 2 * block_size) {
    throw UsageError(fmt::format("{} slots are no two blocks of {} tokens",
                                 slots, block_size));
  }
  if (!(watermark >= 0 && watermark < 1)) {
    throw UsageError(
        fmt::format("a watermark of {}: in [0, 1) is accepted", watermark));
  }
  SchedulerOptions options;
  options.watermark = watermark;
  options.max_step_tokens = 1 << 30;
  options.max_sequences = 1 << 20;
  options.prefix_caching = false;  // every prompt another
  Scheduler scheduler(options, slots / block_size, block_size,
                      std::make_shared<FirstComeFirstServed>());
  std::vector<std::unique_ptr<Sequence>> sequences;
  for (const RequestLengths& lengths : trace) {
    if (lengths.prompt + lengths.output > slots - block_size) {
      throw UsageError(fmt::format("{} slots are no room for {} + {} tokens",
                                   slots, lengths.prompt, lengths.output));
    }
    Request request;
    request.prompt.assign(static_cast<std::size_t>(lengths.prompt), 0);
    auto sequence = std::make_unique<Sequence>();
    sequence->id = std::ssize(sequences);
    sequence->tokens = request.prompt;
    sequence->limit = lengths.prompt + lengths.output;
    sequence->asked = std::make_shared<const Request>(std::move(request));
    scheduler.add(*sequence);
    sequences.push_back(std::move(sequence));
  }
  Means means(static_cast<double>(slots));
  while (scheduler.running() + scheduler.waiting() > 0) {
    const StepPlan plan = scheduler.plan();
    double tokens = 0;
    for (const PlanRow& row : plan.rows) {
      tokens += static_cast<double>(row.context());
    }
    const BlockPool& pool = scheduler.blocks().pool();
    const auto taken =
        static_cast<double>((pool.total() - pool.free()) * block_size);
    means.add(tokens, 0, taken - tokens, std::ssize(plan.rows));
    for (const PlanRow& row : plan.rows) {
      Sequence& s = *sequences[static_cast<std::size_t>(row.sequence)];
      scheduler.row_done(s, row.draws);
      if (!row.draws) continue;
      s.tokens.push_back(0);
      if (std::ssize(s.tokens) >= s.limit) {
        scheduler.remove(s, FinishReason::kLength);
      }
    }
    scheduler.check_ledger();
  }
  return means.take(scheduler.preemptions());
}

MemoryUse serve_reserved(const std::vector<RequestLengths>& trace,
                         std::int64_t slots, Reservation reservation,
                         std::int64_t max_length) {
  struct Running {
    std::int64_t length, end, reserved;
  };
  std::deque<RequestLengths> waiting(trace.begin(), trace.end());
  std::vector<Running> running;
  std::int64_t reserved = 0;
  Means means(static_cast<double>(slots));
  while (!waiting.empty() || !running.empty()) {
    while (!waiting.empty()) {
      // The last token that is drawn is never computed: it needs no slot.
      const std::int64_t end =
          waiting.front().prompt + waiting.front().output - 1;
      std::int64_t size = end;
      if (reservation == Reservation::kMax) size = max_length;
      if (reservation == Reservation::kPow2) {
        size = std::min(max_length, static_cast<std::int64_t>(std::bit_ceil(
                                        static_cast<std::uint64_t>(end))));
      }
      if (size > slots) throw UsageError("a reservation is larger than memory");
      if (reserved + size > slots) break;
      reserved += size;
      running.push_back({waiting.front().prompt, end, size});
      waiting.pop_front();
    }
    std::int64_t tokens = 0, later = 0;
    for (const Running& r : running) {
      tokens += r.length;
      later += r.end - r.length;
    }
    means.add(static_cast<double>(tokens), static_cast<double>(later),
              static_cast<double>(reserved - tokens - later),
              std::ssize(running));
    for (Running& r : running) ++r.length;
    std::erase_if(running, [&](const Running& r) {
      if (r.length <= r.end) return false;
      reserved -= r.reserved;
      return true;
    });
  }
  return means.take(0);
}

}  // namespace dai::paged
