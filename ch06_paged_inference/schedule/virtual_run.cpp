// SPDX-License-Identifier: Apache-2.0
#include "ch06_paged_inference/schedule/virtual_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>
#include <memory>
#include <numbers>
#include <sstream>
#include <stdexcept>

#include "ch01_intro/counter_random.h"
#include "ch01_intro/statistics/statistics.h"
#include "common/errors.h"

namespace dai::paged {
namespace {

class Server {
 public:
  Server(const std::vector<TimedRequest>& trace, const VirtualServer& options,
         const StepCost& cost)
      : trace_(trace),
        cost_(cost),
        scheduler_(options.scheduler, options.blocks, options.block_size,
                   scheduling_policy(options.policy)) {
    const std::int64_t most = (options.blocks - 1) * options.block_size;
    for (const TimedRequest& asked : trace) {
      if (asked.prompt + asked.output > most) {
        throw UsageError(
            fmt::format("a request of {} tokens: the memory has {}",
                        asked.prompt + asked.output, most));
      }
    }
  }

  std::size_t arrived() const {  // of those that are not admitted yet
    std::size_t n = next_;
    while (n < trace_.size() && trace_[n].arrival_ms <= now_) ++n;
    return n - next_;
  }
  bool all_admitted() const { return next_ == trace_.size(); }
  bool idle() const { return scheduler_.running() + scheduler_.waiting() == 0; }

  void admit(std::size_t n) {
    for (; n > 0; --n, ++next_) {
      const TimedRequest& asked = trace_[next_];
      Request request;
      request.prompt.assign(static_cast<std::size_t>(asked.prompt), 0);
      request.priority = asked.priority;
      auto sequence = std::make_unique<Sequence>();
      sequence->id = static_cast<std::int64_t>(next_);
      sequence->tokens = request.prompt;
      sequence->limit = asked.prompt + asked.output;
      sequence->asked = std::make_shared<const Request>(std::move(request));
      scheduler_.add(*sequence);
      sequences_.push_back(std::move(sequence));
      run_.requests.push_back({asked.arrival_ms, 0, 0, asked.output});
    }
  }

  void step() {
    const StepPlan plan = scheduler_.plan();
    if (plan.empty()) {
      if (++empty_ > 2) throw std::logic_error("nothing can be scheduled");
      return;
    }
    empty_ = 0;
    const double ms = cost_.of(plan);
    now_ += ms;
    run_.longest_step_ms = std::max(run_.longest_step_ms, ms);
    ++run_.steps;
    for (const PlanRow& row : plan.rows) {
      const auto at = static_cast<std::size_t>(row.sequence);
      Sequence& s = *sequences_[at];
      scheduler_.row_done(s, row.draws);
      if (!row.draws) continue;
      s.tokens.push_back(0);
      ServedRequest& served = run_.requests[at];
      if (s.output_tokens() == 1) served.first_ms = now_;
      if (std::ssize(s.tokens) >= s.limit) {
        served.end_ms = now_;
        scheduler_.remove(s, FinishReason::kLength);
      }
    }
  }

  void wait_for_arrival() {
    now_ = std::max(now_, trace_.at(next_).arrival_ms);
  }
  ServedTrace take() {
    run_.end_ms = now_;
    run_.preemptions = scheduler_.preemptions();
    return run_;
  }

 private:
  const std::vector<TimedRequest>& trace_;
  const StepCost& cost_;
  Scheduler scheduler_;
  std::vector<std::unique_ptr<Sequence>> sequences_;
  std::size_t next_ = 0;
  double now_ = 0;
  int empty_ = 0;
  ServedTrace run_;
};

VirtualServer without_prefixes(VirtualServer server) {
  server.scheduler.prefix_caching = false;  // every prompt another
  return server;
}

}  // namespace

std::vector<TimedRequest> arrivals_like_chats(std::int64_t requests,
                                              double per_second,
                                              std::int64_t mean_prompt,
                                              std::int64_t mean_output,
                                              std::uint64_t seed) {
  const auto uniform = [&](const char* stream, std::int64_t at) {
    return std::max(intro::uniform01(intro::stream_key(seed, stream),
                                     static_cast<std::uint64_t>(at)),
                    0x1p-25F);
  };
  const auto length = [&](const char* stream, std::int64_t mean,
                          std::int64_t i) {
    const double normal =
        std::sqrt(-2 * std::log(uniform(stream, 2 * i))) *
        std::cos(2 * std::numbers::pi * uniform(stream, 2 * i + 1));
    const double value =
        static_cast<double>(mean) * std::exp(normal - 0.5);  // that mean
    return std::clamp<std::int64_t>(std::llround(value), 1, 4 * mean);
  };
  std::vector<TimedRequest> trace;
  double now = 0;
  for (std::int64_t i = 0; i < requests; ++i) {
    now -= std::log(uniform("arrivals", i)) * 1e3 / per_second;
    trace.push_back({now, length("prompts", mean_prompt, i),
                     length("outputs", mean_output, i), i % 4});
  }
  return trace;
}

std::vector<TimedRequest> read_trace(const std::string& path) {
  constexpr std::int64_t kMost = 1 << 20;
  std::ifstream file(path);
  if (!file) throw UsageError(fmt::format("'{}' cannot be read", path));
  std::vector<TimedRequest> trace;
  std::string line;
  for (int number = 1; std::getline(file, line); ++number) {
    std::istringstream words(line);
    TimedRequest r;
    std::string rest;
    const bool good =
        (words >> r.arrival_ms >> r.prompt >> r.output) && !(words >> rest) &&
        r.prompt >= 1 && r.output >= 1 && r.prompt <= kMost &&
        r.output <= kMost && std::isfinite(r.arrival_ms) &&
        r.arrival_ms >= (trace.empty() ? 0 : trace.back().arrival_ms);
    if (!good) {
      throw UsageError(fmt::format(
          "'{}' line {}: \"arrival_ms prompt_tokens answer_tokens\" is "
          "expected, not before the line above, of 1 to {} tokens each",
          path, number, kMost));
    }
    trace.push_back(r);
  }
  if (trace.empty()) throw UsageError(fmt::format("'{}' is empty", path));
  return trace;
}

double ServedTrace::tokens_per_s() const {
  double tokens = 0;
  for (const ServedRequest& r : requests) {
    tokens += static_cast<double>(r.output);
  }
  return tokens / end_ms * 1e3;
}

double ServedTrace::ttft_ms(double percent) const {
  std::vector<double> values;
  for (const ServedRequest& r : requests) values.push_back(r.ttft_ms());
  return intro::percentile(values, percent);
}

double ServedTrace::tpot_ms(double percent) const {
  std::vector<double> values;
  for (const ServedRequest& r : requests) {
    if (r.output > 1) values.push_back(r.tpot_ms());
  }
  return values.empty() ? 0 : intro::percentile(values, percent);
}

ServedTrace serve_continuously(const std::vector<TimedRequest>& trace,
                               const VirtualServer& options,
                               const StepCost& cost) {
  Server server(trace, without_prefixes(options), cost);
  while (!server.all_admitted() || !server.idle()) {
    if (server.idle()) server.wait_for_arrival();
    server.admit(server.arrived());
    server.step();
  }
  return server.take();
}

ServedTrace serve_statically(const std::vector<TimedRequest>& trace,
                             std::int64_t batch, const VirtualServer& options,
                             const StepCost& cost) {
  VirtualServer whole = without_prefixes(options);
  whole.scheduler.max_step_tokens = std::numeric_limits<std::int32_t>::max();
  whole.scheduler.max_sequences = batch;
  Server server(trace, whole, cost);
  while (!server.all_admitted() || !server.idle()) {
    if (server.idle()) {
      server.wait_for_arrival();
      server.admit(std::min(server.arrived(), static_cast<std::size_t>(batch)));
    }
    server.step();
  }
  return server.take();
}

}  // namespace dai::paged
