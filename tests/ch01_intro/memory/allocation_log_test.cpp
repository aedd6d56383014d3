// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/memory/allocation_log.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <set>
#include <stdexcept>
#include <thread>
#include <vector>

#include "ch01_intro/counter_random.h"

namespace dai::intro {
namespace {

using C = MemoryCategory;

const void* at_address(std::uintptr_t address) {
  return reinterpret_cast<const void*>(address);
}

TEST(AllocationLog, LifeDecidesTheCategory) {
  AllocationLog log;
  log.on_allocate(at_address(1), 1000);  // a parameter
  log.claim(at_address(1), C::kParameters);
  log.begin_phase("forward", /*saves=*/true);
  log.on_allocate(at_address(2), 200);  // saved for backward
  log.on_allocate(at_address(3), 30);   // gone before forward ends
  log.on_free(at_address(3));
  log.end_phase();
  log.begin_phase("backward");
  log.on_allocate(at_address(4), 1000);  // the gradient
  log.on_allocate(at_address(5), 50);    // scratch
  log.on_free(at_address(5));
  log.on_free(at_address(2));
  log.on_allocate(at_address(6), 7);  // nobody says what for
  log.end_phase();
  log.claim(at_address(4), C::kGradients);

  const MemoryReport report = log.report();
  EXPECT_EQ(report.peak.total(), 1000 + 200 + 1000 + 50);
  EXPECT_EQ(report.peak[C::kParameters], 1000);
  EXPECT_EQ(report.peak[C::kActivations], 200);
  EXPECT_EQ(report.peak[C::kGradients], 1000);
  EXPECT_EQ(report.peak[C::kTemporary], 50);
  EXPECT_EQ(report.at_end[C::kActivations], 0);
  EXPECT_EQ(report.at_end[C::kOther], 7);
  EXPECT_EQ(report.at_end.total(), log.live_bytes());
  ASSERT_EQ(report.phases.size(), 2U);
  EXPECT_EQ(report.phases[0].at_end.total(), 1200);
  EXPECT_EQ(report.phases[0].peak.total(), 1230);
  EXPECT_EQ(report.phases[0].peak[C::kTemporary], 30);
  EXPECT_EQ(report.phases[1].peak.total(), report.peak.total());
}

// Two microbatches forward before any backward, as pipelines do: what the
// first one saved still waits while the second one runs.
TEST(AllocationLog, AnEarlierForwardKeepsItsActivations) {
  AllocationLog log;
  for (const std::uintptr_t microbatch : {1, 2}) {
    log.begin_phase("forward", /*saves=*/true);
    log.on_allocate(at_address(microbatch), 100);
    log.end_phase();
  }
  for (const std::uintptr_t microbatch : {1, 2}) {
    log.begin_phase("backward");
    log.on_free(at_address(microbatch));
    log.end_phase();
  }
  const MemoryReport report = log.report();
  EXPECT_EQ(report.phases[0].at_end[C::kActivations], 100);
  EXPECT_EQ(report.phases[1].at_end[C::kActivations], 200);
  EXPECT_EQ(report.phases[2].at_end[C::kActivations], 100);
  EXPECT_EQ(report.peak[C::kActivations], 200);
}

// Outside of phases too, temporary is what does not outlive its stretch.
TEST(AllocationLog, WhatLivesAcrossAPhaseIsNotTemporary) {
  AllocationLog log;
  log.on_allocate(at_address(1), 10);
  log.on_allocate(at_address(2), 1);
  log.on_free(at_address(2));
  log.begin_phase("sync");
  log.end_phase();
  log.on_free(at_address(1));
  const MemoryReport report = log.report();
  EXPECT_EQ(report.peak[C::kOther], 10);
  EXPECT_EQ(report.peak[C::kTemporary], 1);
}

TEST(AllocationLog, APhaseThatOnlyFreesPeaksAtItsBeginning) {
  AllocationLog log;
  log.on_allocate(at_address(1), 100);
  log.begin_phase("free");
  log.on_free(at_address(1));
  log.end_phase();
  log.begin_phase("nothing");
  log.end_phase();
  const MemoryReport report = log.report();
  EXPECT_EQ(report.phases[0].peak.total(), 100);
  EXPECT_EQ(report.phases[0].at_end.total(), 0);
  EXPECT_EQ(report.phases[1].peak.total(), 0);
}

TEST(AllocationLog, ModulesNestAndAnswerForThePeak) {
  AllocationLog log;
  log.enter_module("block");
  log.on_allocate(at_address(1), 10);
  log.enter_module("block.mlp");
  log.on_allocate(at_address(2), 500);
  log.leave_module();
  log.on_allocate(at_address(3), 1);
  log.leave_module();
  log.on_free(at_address(2));
  const MemoryReport report = log.report();
  ASSERT_EQ(report.modules.size(), 2U);
  EXPECT_EQ(report.modules[0].name, "block.mlp");
  EXPECT_EQ(report.modules[0].at_peak.total(), 500);
  EXPECT_EQ(report.modules[1].at_peak.total(), 11);
}

TEST(AllocationLog, MisuseIsAnError) {
  AllocationLog log;
  EXPECT_THROW(log.end_phase(), std::logic_error);
  EXPECT_THROW(log.leave_module(), std::logic_error);
  EXPECT_THROW(log.claim(at_address(9), C::kBuffers), std::logic_error);
  log.on_free(at_address(9));  // older than the log: nothing to say
  log.begin_phase("a");
  EXPECT_THROW(log.begin_phase("b"), std::logic_error);
}

// The report against a plain account kept beside it, over a random history in
// which addresses are used again as a real allocator does.
TEST(AllocationLog, CategoriesAddUpAtEveryEvent) {
  AllocationLog log;
  std::map<std::uintptr_t, std::int64_t> mine;
  std::vector<std::int64_t> totals;
  const std::uint64_t key = stream_key(1234, "allocation_log_test");
  std::int64_t total = 0;
  for (std::uint64_t i = 0; i < 3000; ++i) {
    if (i % 500 == 0) log.begin_phase("p", i % 1000 == 0);
    const std::uint64_t draw = mix64(key ^ i);
    const std::uintptr_t address = 1 + draw % 64;
    if (const auto found = mine.find(address); found != mine.end()) {
      log.on_free(at_address(address));
      total -= found->second;
      mine.erase(found);
    } else {
      const auto bytes = static_cast<std::int64_t>(draw >> 50);
      log.on_allocate(at_address(address), bytes);
      if (draw % 3 == 0) log.claim(at_address(address), C::kBuffers);
      total += bytes;
      mine[address] = bytes;
    }
    totals.push_back(total);
    if (i % 500 == 499) log.end_phase();
  }
  const MemoryReport whole = log.report(totals.size());
  ASSERT_EQ(whole.timeline.size(), totals.size());
  for (std::size_t i = 0; i < totals.size(); ++i) {
    ASSERT_EQ(whole.timeline[i].live.total(), totals[i]) << i;
    for (const std::int64_t bytes : whole.timeline[i].live.bytes) {
      ASSERT_GE(bytes, 0) << i;
    }
  }
  const std::int64_t peak = *std::max_element(totals.begin(), totals.end());
  const MemoryReport thin = log.report(10);
  EXPECT_LE(thin.timeline.size(), 12U);
  EXPECT_EQ(whole.peak.total(), peak);
  EXPECT_EQ(thin.peak.total(), peak);
  std::int64_t shown = 0;
  for (const auto& point : thin.timeline) {
    shown = std::max(shown, point.live.total());
  }
  EXPECT_EQ(shown, peak);  // thinned out, but never past the peak
  std::int64_t modules = 0;
  for (const auto& module : thin.modules) modules += module.at_peak.total();
  EXPECT_EQ(modules, peak);
}

TEST(AllocationLog, ThreadsMayAllocateTogether) {
  AllocationLog log;
  std::vector<std::thread> threads;
  for (std::uintptr_t t = 1; t <= 4; ++t) {
    threads.emplace_back([&log, t] {
      for (std::uintptr_t i = 0; i < 1000; ++i) {
        log.on_allocate(at_address(t * 10000 + i), 2);
        if (i % 2 == 0) log.on_free(at_address(t * 10000 + i));
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(log.live_bytes(), 4 * 500 * 2);
  EXPECT_EQ(log.report().at_end.total(), 4 * 500 * 2);
}

}  // namespace
}  // namespace dai::intro
