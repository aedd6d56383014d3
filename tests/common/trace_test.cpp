// SPDX-License-Identifier: Apache-2.0
#include "common/trace.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <random>
#include <set>
#include <stdexcept>
#include <thread>

#include "common/errors.h"
#include "tests/common/temp_folder.h"

namespace dai {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

// The events of a trace file, without the names of its tracks.
std::vector<json> events_of(const std::string& text) {
  std::vector<json> events;
  const json root = json::parse(text);
  for (const json& event : root.at("traceEvents")) {
    if (event.at("ph") != "M") events.push_back(event);
  }
  return events;
}

TEST(Trace, EachKindOfEventHasItsForm) {
  Trace trace(3, "node \"a\"");
  trace.complete("all_reduce", "comm", 10.5, 2.25,
                 {{"bytes", std::int64_t{4096}}, {"op", std::string("sum")}});
  trace.instant("epoch", "train");
  trace.counter("memory", {{"gib", 1.5}});
  const json root = json::parse(trace.to_json());
  EXPECT_EQ(root.at("traceEvents").at(0).at("args").at("name"),
            "rank 3 (node \"a\")");
  const auto events = events_of(trace.to_json());
  ASSERT_EQ(events.size(), 3u);
  const int thread = events[0].at("tid");
  EXPECT_EQ(events[0], json::parse(R"({"ph":"X","name":"all_reduce",
      "cat":"comm","pid":3,"ts":10.5,"dur":2.25,
      "args":{"bytes":4096,"op":"sum"},"tid":)" +
                                   std::to_string(thread) + "}"));
  EXPECT_EQ(events[1].at("ph"), "i");
  EXPECT_EQ(events[1].at("s"), "t");
  EXPECT_EQ(events[2].at("ph"), "C");
  EXPECT_EQ(events[2].at("args"), json({{"gib", 1.5}}));
}

TEST(Trace, SpansNestAndLastAsLongAsTheirScope) {
  Trace trace(0, "host");
  const double before = steady_us();
  {
    TraceSpan outer(&trace, "outer", "test");
    TraceSpan inner(&trace, "inner", "test", {{"n", std::int64_t{1}}});
    TraceSpan nothing(nullptr, "nothing", "test");
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  const double after = steady_us();
  const auto events = events_of(trace.to_json());
  ASSERT_EQ(events.size(), 2u);  // the inner one ends first
  EXPECT_EQ(events[0].at("name"), "inner");
  const auto begin = [&](int i) { return events[i].at("ts").get<double>(); };
  const auto end = [&](int i) {
    return begin(i) + events[i].at("dur").get<double>();
  };
  EXPECT_LE(before, begin(1));
  EXPECT_LE(begin(1), begin(0));
  EXPECT_GE(end(0) - begin(0), 2000.0);
  EXPECT_LE(end(1), after + 1);  // a microsecond for the addition's rounding
}

TEST(Trace, ThreadsRecordWithoutLosingEvents) {
  Trace trace(0, "host");
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int k = 0; k < 1000; ++k) TraceSpan span(&trace, "work", "test");
    });
  }
  for (auto& thread : threads) thread.join();
  const auto events = events_of(trace.to_json());
  EXPECT_EQ(events.size(), 4000u);
  std::set<int> lines;
  for (const json& event : events) lines.insert(event.at("tid").get<int>());
  EXPECT_EQ(lines.size(), 4u);
}

TEST(Trace, MergingMovesEveryRankOntoRankZerosClock) {
  std::vector<RankTrace> traces;
  const double offsets[] = {0.0, -5e9, 250.5};
  for (int rank = 0; rank < 3; ++rank) {
    Trace trace(rank, "host");
    // The same moment, 1000 on rank 0's clock, as each rank's clock shows it.
    trace.complete("barrier", "comm", 1000 - offsets[rank], 7);
    traces.push_back({rank, offsets[rank], trace.to_json()});
  }
  const std::string merged = merge_traces(traces);
  const auto events = events_of(merged);
  ASSERT_EQ(events.size(), 3u);
  for (int rank = 0; rank < 3; ++rank) {
    EXPECT_EQ(events[rank].at("pid"), rank);
    EXPECT_NEAR(events[rank].at("ts").get<double>(), 1000, 1e-3);
    EXPECT_EQ(events[rank].at("dur"), 7.0);
  }
  EXPECT_THAT(merged, HasSubstr("rank 2 (host)"));
}

TEST(Trace, WhatIsNoTraceIsRefusedByRank) {
  const auto refusal = [](const std::string& text) {
    return message_of<UsageError>([&] { merge_traces({{5, 0, text}}); });
  };
  EXPECT_EQ(refusal("{"), "trace of rank 5: not valid JSON at byte 2");
  EXPECT_EQ(refusal("[]"), "trace of rank 5: no list \"traceEvents\"");
  EXPECT_EQ(refusal("{}"), "trace of rank 5: no list \"traceEvents\"");
  EXPECT_THAT(refusal(R"({"traceEvents":[1]})"), HasSubstr("no object"));
  EXPECT_THAT(refusal(R"({"traceEvents":[{"ts":"1"}]})"),
              HasSubstr("time is no number"));
  const std::string good = Trace(0, "h").to_json();
  EXPECT_THROW(merge_traces({{0, 0, good}, {0, 0, good}}),
               std::invalid_argument);
}

TEST(ClockOffset, TheShortestRoundTripBoundsTheError) {
  // Rank 0's clock is 1e6 us ahead. Every way takes at least 20 us, and
  // queueing adds up to 1000 us more on either side.
  constexpr double kTrue = 1e6;
  std::mt19937_64 random(1234);
  std::exponential_distribution<double> queueing(1.0 / 200);
  for (int trial = 0; trial < 100; ++trial) {
    std::vector<ClockSample> samples;
    for (int i = 0; i < 20; ++i) {
      const double send = 1000.0 * i;
      const double there = send + 20 + queueing(random);
      samples.push_back(
          {send, there + kTrue, there + 5 + 20 + queueing(random)});
    }
    const ClockOffset found = estimate_clock_offset(samples);
    EXPECT_LE(std::abs(found.offset_us - kTrue), found.max_error_us);
    for (const ClockSample& sample : samples) {
      EXPECT_LE(2 * found.max_error_us, sample.receive_us - sample.send_us);
    }
  }
  // Symmetric ways: exact.
  EXPECT_EQ(estimate_clock_offset({{0, 500, 1000}, {10, 115, 20}}).offset_us,
            100);
}

TEST(ClockOffset, ImpossibleSamplesAreRefused) {
  EXPECT_THROW(estimate_clock_offset({}), std::invalid_argument);
  EXPECT_THROW(estimate_clock_offset({{2, 0, 1}}), std::invalid_argument);
}

TEST(Timer, StopwatchAddsUpLaps) {
  Stopwatch watch;
  const WallTimer all;
  for (int i = 0; i < 3; ++i) {
    const StopwatchLap lap(watch);
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  EXPECT_EQ(watch.laps(), 3);
  EXPECT_GE(watch.total_ms(), 3.0);
  EXPECT_LE(watch.total_ms(), all.ms());
}

}  // namespace
}  // namespace dai
