// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/bottleneck/verdict.h"

#include <gmock/gmock.h>

#include <cmath>
#include <functional>
#include <limits>

#include "common/errors.h"

namespace dai::intro {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

// A healthy step of 100 ms, with the probes of a healthy machine.
Measures healthy() {
  Measures m = no_measures();
  m[kStepMs] = 100;
  m[kDataMs] = 1;
  m[kForwardMs] = 30;
  m[kBackwardMs] = 50;
  m[kOptimizerMs] = 4;
  m[kLoopMs] = 1;
  m[kWaitMs] = 2;
  m[kWireMs] = 12;
  m[kComputeCpuMs] = 84;
  m[kStarvedMs] = 1;
  m[kRunDelayMs] = 1;
  m[kVoluntarySwitches] = 100;
  m[kInvoluntarySwitches] = 5;
  m[kNodeBusyShare] = 0.6;
  m[kFmaUs] = 20;
  m[kRandomNs] = 25;
  m[kStreamUs] = 27;
  m[kPingUs] = 60;
  m[kLinkUs] = 400;
  return m;
}

JobEvidence steps(int count, int ranks,
                  const std::function<void(int rank, Measures&)>& change = {}) {
  JobEvidence job;
  for (int step = 0; step < count; ++step) {
    StepEvidence rows;
    for (int rank = 0; rank < ranks; ++rank) {
      Measures m = healthy();
      // A little of what real measurements have: half a percent of noise.
      for (double& value : m) value *= 1 + 0.005 * ((step + rank) % 3 - 1);
      if (change) change(rank, m);
      rows.push_back(m);
    }
    job.push_back(std::move(rows));
  }
  return job;
}

// The verdict on a job of two ranks that `change` has come over.
Verdict after(const std::function<void(int rank, Measures&)>& change,
              const VerdictRules& rules = {},
              Resource previous = Resource::kNone) {
  return judge({.reference = steps(12, 2), .watched = steps(12, 2, change)},
               rules, previous);
}

void grow(Measures& m, Measure part, double ms) {
  m[part] += ms;
  m[kStepMs] += ms;
}

TEST(Verdict, NothingChangedIsNone) {
  const Verdict verdict = after([](int, Measures&) {});
  EXPECT_EQ(verdict.resource, Resource::kNone);
  EXPECT_THAT(verdict.sentence(), HasSubstr("verdict: none"));
  EXPECT_EQ(verdict.gain(), 1);
}

TEST(Verdict, WaitingForDataIsInputAndNamesItsRank) {
  const Verdict verdict = after([](int rank, Measures& m) {
    grow(m, rank == 1 ? kDataMs : kWaitMs, 80);
  });
  EXPECT_EQ(verdict.resource, Resource::kInput);
  EXPECT_EQ(verdict.rank, 1);
  EXPECT_NEAR(verdict.cost_ms, 80, 1);
  EXPECT_THAT(verdict.sentence(), HasSubstr("verdict: input (rank 1)"));
}

TEST(Verdict, WaitingForAStoppedRankIsASymptom) {
  const Verdict verdict = after([](int rank, Measures& m) {
    grow(m, rank == 0 ? kBackwardMs : kWaitMs, 60);
    if (rank == 0) m[kStarvedMs] += 60;
  });
  EXPECT_EQ(verdict.resource, Resource::kCompute);
  EXPECT_EQ(verdict.rank, 0);
  EXPECT_THAT(verdict.reason, HasSubstr("stopped"));
}

TEST(Verdict, AQueueForCoresCountsOnlyWhenItCostsAWholeStep) {
  const auto queue = [](double ms) {
    return [ms](int, Measures& m) {
      grow(m, kBackwardMs, ms);
      m[kStarvedMs] += ms;
      m[kRunDelayMs] += ms;
    };
  };
  EXPECT_EQ(after(queue(60)).resource, Resource::kNone);
  EXPECT_EQ(after(queue(120)).resource, Resource::kCompute);
}

// The same slower work, told apart by the probes alone.
Verdict slower_work(double ms, double memory, double registers) {
  return after([=](int, Measures& m) {
    grow(m, kBackwardMs, ms);
    m[kComputeCpuMs] += ms;
    m[kStreamUs] *= memory;
    m[kFmaUs] *= registers;
  });
}

TEST(Verdict, ProbesTellMemoryFromCompute) {
  EXPECT_EQ(slower_work(40, 2, 1).resource, Resource::kMemory);
  EXPECT_EQ(slower_work(40, 2, 2).resource, Resource::kCompute);
  EXPECT_EQ(slower_work(40, 1, 1).resource, Resource::kCompute);
}

TEST(Verdict, MemoryNeedsLessOfTheStepBecauseAProbeAgrees) {
  EXPECT_EQ(slower_work(15, 2, 1).resource, Resource::kMemory);
  EXPECT_EQ(slower_work(15, 1, 1).resource, Resource::kNone);
  EXPECT_EQ(slower_work(5, 2, 1).resource, Resource::kNone);
}

TEST(Verdict, AProbeThatScattersHasNotGotWorse) {
  int i = 0;
  const Verdict verdict = after([&](int, Measures& m) {
    grow(m, kBackwardMs, 15);
    m[kComputeCpuMs] += 15;
    m[kRandomNs] *= i++ % 5 < 2 ? 1 : 4;  // now so, now so
    if (i % 3 == 0) m[kRandomNs] *= 20;
  });
  EXPECT_EQ(verdict.resource, Resource::kNone);
}

Verdict slower_wire(double ping, double link, double busy) {
  return after([=](int, Measures& m) {
    grow(m, kWireMs, 80);
    m[kPingUs] *= ping;
    m[kLinkUs] *= link;
    m[kNodeBusyShare] = busy;
  });
}

TEST(Verdict, ASlowWireNeedsASlowLink) {
  EXPECT_EQ(slower_wire(1, 20, 0.5).resource, Resource::kCommunication);
  EXPECT_EQ(slower_wire(1, 1, 0.5).resource, Resource::kNone);
}

TEST(Verdict, WithoutIdleCoresASlowPingIsNotTheLinks) {
  EXPECT_EQ(slower_wire(20, 20, 1).resource, Resource::kNone);
  EXPECT_EQ(slower_wire(20, 20, 0.5).resource, Resource::kCommunication);
  EXPECT_EQ(slower_wire(1, 20, 1).resource, Resource::kCommunication);
}

TEST(Verdict, OneRankAloneOnTheWireIsNoSlowLink) {
  const Verdict verdict = after([](int rank, Measures& m) {
    grow(m, rank == 0 ? kWireMs : kWaitMs, 80);
    m[kLinkUs] *= 20;
  });
  EXPECT_EQ(verdict.resource, Resource::kNone);
}

TEST(Verdict, OfTwoCausesTheLargerIsNamed) {
  const auto two = [](double data, double wire) {
    return after([=](int, Measures& m) {
      grow(m, kDataMs, data);
      grow(m, kWireMs, wire);
      m[kLinkUs] *= 20;
    });
  };
  EXPECT_EQ(two(80, 60).resource, Resource::kInput);
  EXPECT_EQ(two(60, 80).resource, Resource::kCommunication);
}

TEST(Verdict, ATieIsDecidedTheSameWayEachTime) {
  const auto tie = [] {
    return after([](int rank, Measures& m) {
      m[kDataMs] = 51;
      m[kWireMs] = 62;
      m[kStepMs] = 200;
      m[kLinkUs] = 8000.0 + rank;
    });
  };
  const Verdict first = tie();
  EXPECT_EQ(first.resource, Resource::kInput);  // the list's order
  EXPECT_EQ(tie().sentence(), first.sentence());
}

TEST(Verdict, WhatIsHiddenBehindOtherWorkIsNoBottleneck) {
  const Verdict verdict = after([](int, Measures& m) {
    m[kDataMs] += 80;  // the step is as long as ever
  });
  EXPECT_EQ(verdict.resource, Resource::kNone);
}

TEST(Verdict, AVerdictStaysUntilItCostsLittle) {
  const auto data = [](double ms) {
    return [ms](int, Measures& m) { grow(m, kDataMs, ms); };
  };
  EXPECT_EQ(after(data(20)).resource, Resource::kNone);
  EXPECT_EQ(after(data(20), {}, Resource::kInput).resource, Resource::kInput);
  EXPECT_EQ(after(data(10), {}, Resource::kInput).resource, Resource::kNone);
}

TEST(Verdict, AJobStarvedFromTheStartIsSeenByItsShares) {
  const auto starving = [](Measure part) {
    return steps(12, 2, [part](int, Measures& m) { grow(m, part, 200); });
  };
  const JobEvidence waits = starving(kDataMs), wire = starving(kWireMs);
  const Verdict input = judge({.reference = waits, .watched = waits});
  EXPECT_EQ(input.resource, Resource::kInput);
  EXPECT_TRUE(input.from_the_start);
  EXPECT_EQ(judge({.reference = wire, .watched = wire}).resource,
            Resource::kCommunication);
}

TEST(Verdict, MissingProbesLeaveTheClocks) {
  const auto without = [](double data) {
    return steps(12, 1, [data](int, Measures& m) {
      for (int i = kComputeCpuMs; i < kMeasures; ++i) m[i] = kNaN;
      grow(m, kDataMs, data);
    });
  };
  const Verdict none = judge({.reference = without(0), .watched = without(0)});
  EXPECT_EQ(none.resource, Resource::kNone);
  EXPECT_THAT(none.table(), HasSubstr("not measured"));
  EXPECT_EQ(judge({.reference = without(0), .watched = without(80)}).resource,
            Resource::kInput);
}

TEST(Verdict, AHiccupDecidesNothing) {
  int step = 0;
  const Verdict verdict = after([&](int, Measures& m) {
    if (step++ % 8 == 0) grow(m, kDataMs, 5000);
  });
  EXPECT_EQ(verdict.resource, Resource::kNone);
}

TEST(Verdict, RefusesTooFewSteps) {
  EXPECT_THAT(
      ([] { judge({.reference = steps(7, 1), .watched = steps(12, 1)}); }),
      ThrowsMessage<UsageError>(
          HasSubstr("no verdict on 7 reference steps: at least 8")));
  EXPECT_THAT(([] { judge({.reference = steps(12, 1), .watched = {}}); }),
              ThrowsMessage<UsageError>(HasSubstr("0 watched steps")));
}

TEST(Verdict, RefusesPartsThatAreNotNumbers) {
  const JobEvidence broken = steps(12, 2, [](int rank, Measures& m) {
    if (rank == 1) m[kWireMs] = kNaN;
  });
  EXPECT_THAT(([&] { judge({.reference = steps(12, 2), .watched = broken}); }),
              ThrowsMessage<UsageError>(HasSubstr("rank 1")));
}

TEST(Verdict, RefusesAnotherNumberOfRanks) {
  EXPECT_THROW(judge({.reference = steps(12, 1), .watched = steps(12, 2)}),
               UsageError);
}

TEST(Verdict, WordsForResourcesGoBothWays) {
  for (const Resource r :
       {Resource::kNone, Resource::kInput, Resource::kCompute,
        Resource::kMemory, Resource::kCommunication}) {
    EXPECT_EQ(resource_named(to_string(r)), r);
  }
  EXPECT_THROW(resource_named("disk"), UsageError);
}

}  // namespace
}  // namespace dai::intro
