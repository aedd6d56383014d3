// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/bottleneck/verdict.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "ch01_intro/statistics/statistics.h"
#include "common/errors.h"

namespace dai::intro {
namespace {

std::vector<double> finite(std::vector<double> values) {
  std::erase_if(values, [](double value) { return !std::isfinite(value); });
  return values;
}

// The standard error of a median is that of a mean times this (normal noise).
constexpr double kMedianToMean = 1.2533141373155001;

double variance_of_median(const std::vector<double>& values) {
  const double deviation =
      kMedianToMean * kMadToDeviation * median_absolute_deviation(values);
  return deviation * deviation / static_cast<double>(values.size());
}

struct Grown {
  int rank = 0;     // that has most of it
  bool all = true;  // the others have at least half as much
  Change change;
};

class Judge {
 public:
  Judge(const Evidence& evidence, const VerdictRules& rules)
      : evidence_(evidence), rules_(rules) {
    require_steps("reference", evidence.reference);
    require_steps("watched", evidence.watched);
    for (int m = kStepMs; m <= kWireMs; ++m) {
      for (int rank = 0; rank < evidence.ranks(); ++rank) {
        if (!of(rank, static_cast<Measure>(m)).known) {
          throw UsageError(fmt::format(
              "no verdict: rank {} has fewer than {} steps with a {}", rank,
              rules.min_steps, to_string(static_cast<Measure>(m))));
        }
      }
    }
  }

  Change of(int rank, Measure measure) const {
    return change_of(evidence_, rank, measure, rules_);
  }

  // Where something grew most.
  template <typename ChangeOn>
  Grown most(ChangeOn change_on) const {
    Grown worst{.change = change_on(0)};
    for (int rank = 1; rank < evidence_.ranks(); ++rank) {
      const Change change = change_on(rank);
      if (!change.known) continue;
      if (!worst.change.known || change.growth() > worst.change.growth()) {
        worst.rank = rank;
        worst.change = change;
      }
    }
    for (int rank = 0; rank < evidence_.ranks(); ++rank) {
      worst.all &= change_on(rank).growth() >= worst.change.growth() / 2;
    }
    return worst;
  }
  Grown most(Measure measure) const {
    return most([&](int rank) { return of(rank, measure); });
  }

  // All ranks are in a collective together: the least growth is the wire's.
  Change wire() const {
    Change least = of(0, kWireMs);
    for (int rank = 1; rank < evidence_.ranks(); ++rank) {
      const Change change = of(rank, kWireMs);
      if (change.growth() < least.growth()) least = change;
    }
    return least;
  }

  // The worst of `measures` over the ranks; rank -1 where nobody measured.
  std::pair<double, int> worst_ratio(
      const std::vector<Measure>& measures) const {
    std::pair<double, int> worst{0, -1};
    for (int rank = 0; rank < evidence_.ranks(); ++rank) {
      const double ratio = ratio_on(rank, measures);
      if (ratio > worst.first) worst = {ratio, rank};
    }
    return worst;
  }

  // How many times as long the worst of these probes takes. 0: none known. A
  // probe whose readings scatter has not got worse.
  double ratio_on(int rank, const std::vector<Measure>& measures) const {
    double worst = 0;
    for (const Measure measure : measures) {
      const Change change = of(rank, measure);
      if (!change.known) continue;
      worst =
          std::max(worst, stands_out(change) ? change.ratio()
                                             : std::min(change.ratio(), 1.0));
    }
    return worst;
  }

  bool stands_out(const Change& change) const {
    return change.growth() > rules_.noise * change.deviation;
  }

  Cause input() const {
    const Grown data = most(kDataMs);
    return made(Resource::kInput, data, "waits for data");
  }

  // Off the cores, and not because others are on them.
  Change stopped(int rank) const {
    Change off = of(rank, kStarvedMs);
    const Change delay = of(rank, kRunDelayMs);
    if (delay.known) {
      off.before -= delay.before;
      off.after -= delay.after;
    }
    return off;
  }

  Cause withheld() const {
    if (!of(0, kStarvedMs).known) {  // no word from the kernel: the wall clock
      return made(Resource::kCompute, most(kBackwardMs),
                  "backward takes longer (no CPU times here)");
    }
    return made(Resource::kCompute,
                most([&](int rank) { return stopped(rank); }),
                "is off the cores: stopped, frozen or paging");
  }

  Cause queueing() const {
    Cause cause = made(Resource::kCompute, most(kRunDelayMs),
                       "waits for a core that others use");
    cause.enter = rules_.enter_queue;
    return cause;
  }

  // The same work took longer on a core: memory's fault, or the core's?
  Cause slower_work() const {
    const Grown cpu = most(kComputeCpuMs);
    const double fma = ratio_on(cpu.rank, {kFmaUs});
    const double memory = ratio_on(cpu.rank, {kRandomNs, kStreamUs});
    if (memory >= rules_.memory_probe && memory > fma * rules_.fma_probe) {
      Cause cause =
          made(Resource::kMemory, cpu,
               fmt::format("memory {:.1f} x slower, registers {:.2f} x", memory,
                           fma));
      cause.enter = rules_.enter_memory;
      return cause;
    }
    return made(Resource::kCompute, cpu,
                fma >= rules_.fma_probe
                    ? fmt::format("the core itself is {:.2f} x slower", fma)
                    : "more work on the cores, no probe is slower");
  }

  Cause communication() const {
    const Change wire_time = wire();
    const auto [ratio, rank] = worst_ratio({kPingUs, kLinkUs});
    Cause cause = made(Resource::kCommunication, {.change = wire_time},
                       rank < 0 ? "wire slower (link not probed)"
                                : fmt::format("link {:.1f} x slower", ratio));
    const double large = worst_ratio({kLinkUs}).first;
    const double small = worst_ratio({kPingUs}).first;
    cause.confirmed = rank < 0 || (ratio >= rules_.link_probe &&
                                   (cores_idle() || large >= 3 * small));
    return cause;
  }

  // Where nothing is idle, a wait is a wait for a core.
  bool cores_idle() const {
    const Change busy = of(0, kNodeBusyShare);
    return !busy.known || busy.after < rules_.busy_node;
  }

  std::vector<Cause> causes() const {
    std::vector<Cause> all{input(), withheld(), queueing(), slower_work(),
                           communication()};
    std::stable_sort(all.begin(), all.end(), [](const auto& a, const auto& b) {
      return a.cost_ms > b.cost_ms;
    });
    return all;
  }

  // By its share of the step alone, which must be as large in the reference:
  // what came later has to pass the comparison.
  Cause from_the_start() const {
    const Change step = of(0, kStepMs);
    const auto lasting = [&](const Change& part) {
      return part.known
                 ? std::min(part.before / step.before, part.after / step.after)
                 : 0;
    };
    Cause cause;
    const auto name = [&](Resource resource, int rank, double share,
                          const char* reason) {
      const double cost = share * step.after;
      if (cost <= cause.cost_ms) return;
      cause = {resource, rank, cost, 0, true, true, reason};
    };
    double wire_share = 1;
    for (int rank = 0; rank < evidence_.ranks(); ++rank) {
      const double data = lasting(of(rank, kDataMs));
      const double off =
          of(rank, kRunDelayMs).known ? lasting(stopped(rank)) : 0;
      wire_share = std::min(wire_share, lasting(of(rank, kWireMs)));
      if (data > rules_.waiting_share) {
        name(Resource::kInput, rank, data,
             "has waited for data since the reference was taken");
      }
      if (off > rules_.stopped_share) {
        name(Resource::kCompute, rank, off,
             "was stopped, frozen or paging already in the reference");
      }
    }
    if (wire_share > rules_.waiting_share && cores_idle()) {
      name(Resource::kCommunication, -1, wire_share,
           "has been on the wire since the reference was taken");
    }
    return cause;
  }

 private:
  void require_steps(const char* what, const JobEvidence& job) const {
    if (static_cast<std::int64_t>(job.size()) < rules_.min_steps) {
      throw UsageError(
          fmt::format("no verdict on {} {} steps: at least {} are needed",
                      job.size(), what, rules_.min_steps));
    }
    for (const StepEvidence& step : job) {
      if (static_cast<int>(step.size()) != evidence_.ranks()) {
        throw UsageError(
            fmt::format("no verdict: {} steps of {} ranks, watched ones of {}",
                        what, step.size(), evidence_.ranks()));
      }
    }
  }

  Cause made(Resource resource, const Grown& grown, std::string reason) const {
    Cause cause;
    cause.resource = resource;
    cause.rank = grown.all ? -1 : grown.rank;
    cause.cost_ms =
        grown.change.known ? std::max(grown.change.growth(), 0.0) : 0;
    cause.enter = rules_.enter;
    cause.large = grown.change.known && stands_out(grown.change);
    cause.reason = std::move(reason);
    return cause;
  }

  const Evidence& evidence_;
  const VerdictRules& rules_;
};

}  // namespace

Change change_of(const Evidence& evidence, int rank, Measure measure,
                 const VerdictRules& rules) {
  const auto before = finite(series(evidence.reference, rank, measure));
  const auto after = finite(series(evidence.watched, rank, measure));
  const auto least = static_cast<std::size_t>(rules.min_steps);
  if (before.size() < least || after.size() < least || least < 1) return {};
  return {.before = median(before),
          .after = median(after),
          .deviation =
              std::sqrt(variance_of_median(before) + variance_of_median(after)),
          .known = true};
}

double Verdict::gain() const {
  return step_ms > cost_ms && cost_ms > 0 ? step_ms / (step_ms - cost_ms) : 1;
}

Verdict judge(const Evidence& evidence, const VerdictRules& rules,
              Resource previous) {
  const Judge judge(evidence, rules);
  const Change step = judge.of(0, kStepMs);
  Verdict verdict;
  verdict.step_ms = step.after;
  verdict.reference_step_ms = step.before;
  verdict.causes = judge.causes();
  for (int m = 0; m < kMeasures; ++m) {
    const auto measure = static_cast<Measure>(m);
    const Grown grown = judge.most(measure);
    verdict.changes.emplace_back(measure, std::pair{grown.rank, grown.change});
  }

  const auto name = [&](const Cause& cause) {
    verdict.resource = cause.resource;
    verdict.rank = cause.rank;
    verdict.cost_ms = cause.cost_ms;
    verdict.reason = cause.reason;
  };
  for (Cause& cause : verdict.causes) {
    const double least =
        (cause.resource == previous ? rules.stay : cause.enter) * step.before;
    // What is hidden behind other work makes no step longer.
    cause.large = cause.large && cause.cost_ms >= least &&
                  step.growth() >= cause.cost_ms / 2;
    if (cause.large && cause.confirmed && verdict.resource == Resource::kNone) {
      name(cause);
    }
  }
  if (verdict.resource == Resource::kNone) {
    const Cause cause = judge.from_the_start();
    if (cause.resource != Resource::kNone) {
      name(cause);
      verdict.from_the_start = true;
    }
  }
  return verdict;
}

}  // namespace dai::intro
