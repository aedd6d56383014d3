// SPDX-License-Identifier: Apache-2.0
#include "ch06_paged_inference/engine/engine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <numeric>
#include <set>
#include <thread>

#include "common/errors.h"
#include "tests/ch06_paged_inference/support/pretend_runner.h"
#include "tests/common/temp_folder.h"

namespace dai::paged {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<std::int32_t> prompt(std::int64_t length, std::int32_t salt = 0) {
  std::vector<std::int32_t> tokens(static_cast<std::size_t>(length));
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    tokens[i] = static_cast<std::int32_t>((i * 7 + i / 5 + salt * 13) % 40);
  }
  return tokens;
}

// An engine on a pretended model, and all that it said.
struct Bench {
  explicit Bench(EngineOptions options = {}, std::int64_t blocks = 64,
                 std::int64_t block_size = 4)
      : runner(blocks, block_size), engine(with_ledger(options), runner) {}

  static EngineOptions with_ledger(EngineOptions options) {
    options.check_ledger = true;
    return options;
  }
  std::int64_t submit(Request request) {
    request.on_output = [this](const Output& output) {
      auto& answer = answers[{output.request, output.index}];
      answer.insert(answer.end(), output.tokens.begin(), output.tokens.end());
      if (output.finish != FinishReason::kNone) {
        EXPECT_EQ(finished.count({output.request, output.index}), 0U);
        finished[{output.request, output.index}] = output;
      }
    };
    const std::int64_t number = engine.submit(request);
    requests[number] = request;
    return number;
  }
  void run() {
    while (engine.step()) {
    }
    EXPECT_EQ(engine.stats().blocks_free, engine.stats().blocks);
  }
  // All that finished by itself is what the reference says.
  void expect_reference(const std::vector<std::int32_t>& end_ids = {}) {
    for (const auto& [key, output] : finished) {
      if (output.finish == FinishReason::kCancelled) continue;
      EXPECT_EQ(answers[key],
                reference_answer(requests.at(key.first), key.first, key.second,
                                 40, engine.max_length(), end_ids))
          << "request " << key.first << " answer " << key.second;
    }
  }

  using Key = std::pair<std::int64_t, std::int64_t>;
  PretendRunner runner;
  Engine engine;
  std::map<std::int64_t, Request> requests;
  std::map<Key, std::vector<std::int32_t>> answers;
  std::map<Key, Output> finished;
};

EngineOptions budget(std::int64_t tokens, bool asynchronous = false) {
  EngineOptions options;
  options.scheduler.max_step_tokens = tokens;
  options.asynchronous = asynchronous;
  return options;
}

class Modes : public ::testing::TestWithParam<bool> {};
INSTANTIATE_TEST_SUITE_P(Engine, Modes, ::testing::Bool(),
                         [](const auto& info) {
                           return info.param ? "Asynchronous" : "Synchronous";
                         });

TEST_P(Modes, AnswersAreThoseOfTheWholeContext) {
  for (const std::int64_t tokens : {1, 3, 7, 64}) {
    Bench bench(budget(tokens, GetParam()));
    bench.submit({.prompt = prompt(9),
                  .sampling = {.temperature = 0, .max_tokens = 20}});
    bench.submit({.prompt = prompt(17, 1), .sampling = {.max_tokens = 9}});
    bench.submit(
        {.prompt = prompt(1, 2),
         .sampling = {
             .temperature = 0.7, .top_k = 5, .seed = 7, .max_tokens = 30}});
    bench.run();
    EXPECT_EQ(bench.finished.size(), 3U);
    bench.expect_reference();
  }
}

TEST_P(Modes, EndsByEosStopIdAndLength) {
  EngineOptions options = budget(16, GetParam());
  options.end_ids = {3, 5};
  Bench bench(options);
  for (int i = 0; i < 20; ++i) {
    bench.submit({.prompt = prompt(5, i), .sampling = {.max_tokens = 40}});
    bench.submit(
        {.prompt = prompt(5, i),
         .sampling = {.stop_ids = {9}, .max_tokens = 40, .ignore_eos = true}});
    bench.submit({.prompt = prompt(5, i),
                  .sampling = {.min_tokens = 12, .max_tokens = 40}});
  }
  bench.run();
  bench.expect_reference(options.end_ids);
  std::map<FinishReason, int> reasons;
  for (const auto& [key, output] : bench.finished) ++reasons[output.finish];
  EXPECT_EQ(bench.finished.size(), 60U);
  EXPECT_GT(reasons[FinishReason::kStop], 30);
  for (const auto& [key, answer] : bench.answers) {
    EXPECT_GE(answer.size(), key.first % 3 == 2 ? 12U : 1U);
  }
}

TEST_P(Modes, SeveralAnswersShareOnePromptAndPart) {
  Bench bench(budget(64, GetParam()));
  bench.submit({.prompt = prompt(18), .sampling = {.max_tokens = 10, .n = 5}});
  bench.run();
  EXPECT_EQ(bench.finished.size(), 5U);
  bench.expect_reference();
  std::set<std::vector<std::int32_t>> different;
  for (const auto& [key, answer] : bench.answers) different.insert(answer);
  EXPECT_GT(different.size(), 3U);
  const EngineStats stats = bench.engine.stats();
  // The prompt once, and of each answer all but its last token.
  EXPECT_EQ(stats.computed_tokens, 18 + 5 * 9);
  EXPECT_GT(stats.sharing.copied, 0);
}

// Of N equal prompts that arrive together one computes, and nothing is stored
// twice.
TEST_P(Modes, EqualPrefixesAreComputedOnce) {
  for (const std::int64_t tokens : {4, 6, 64, 1000}) {
    Bench bench(budget(tokens, GetParam()), 256);
    const std::int64_t n = 10, common = 40, own = 3;
    for (std::int32_t i = 0; i < n; ++i) {
      std::vector<std::int32_t> p = prompt(common);
      for (std::int32_t k = 0; k < own; ++k) p.push_back((i + k) % 40);
      bench.submit(
          {.prompt = p, .sampling = {.temperature = 0, .max_tokens = 1}});
    }
    bench.run();
    bench.expect_reference();
    EXPECT_EQ(bench.engine.stats().computed_tokens, common + n * own)
        << tokens << " tokens a step";
    EXPECT_EQ(bench.engine.stats().sharing.deduplicated, 0);
  }
}

// A prompt that is there as a whole costs one token, not a block.
TEST_P(Modes, AFullHitComputesOneToken) {
  Bench bench(budget(64, GetParam()));
  bench.submit({.prompt = prompt(16), .sampling = {.temperature = 0}});
  bench.run();
  const std::int64_t before = bench.engine.stats().computed_tokens;
  bench.submit(
      {.prompt = prompt(16), .sampling = {.temperature = 0, .max_tokens = 1}});
  bench.run();
  bench.expect_reference();
  EXPECT_EQ(bench.engine.stats().computed_tokens, before + 1);
  EXPECT_EQ(bench.finished.rbegin()->second.cached_tokens, 15);
}

TEST_P(Modes, EqualAnswersAreStoredOnce) {
  Bench bench(budget(64, GetParam()));
  for (int i = 0; i < 4; ++i) {
    bench.submit({.prompt = prompt(6),
                  .sampling = {.temperature = 0, .max_tokens = 24}});
  }
  std::int64_t most = 0;
  while (bench.engine.step()) {
    most = std::max(
        most, bench.engine.stats().blocks - bench.engine.stats().blocks_free);
  }
  bench.expect_reference();
  EXPECT_GT(bench.engine.stats().sharing.deduplicated, 10);
  // 30 tokens in blocks of 4, and what each is writing.
  EXPECT_LE(most, 8 + 4 * 2);
}

TEST_P(Modes, SaltsShareNothing) {
  Bench bench(budget(64, GetParam()));
  for (const char* salt : {"a", "b", "a"}) {
    bench.submit({.prompt = prompt(16),
                  .sampling = {.temperature = 0, .max_tokens = 1},
                  .cache_salt = salt});
    bench.run();
  }
  bench.expect_reference();
  EXPECT_EQ(bench.engine.stats().computed_tokens, 16 + 16 + 1);
}

// Memory for a fraction of what they need: all finish, with the same answers.
TEST_P(Modes, PreemptionChangesNoAnswer) {
  Bench bench(budget(16, GetParam()), /*blocks=*/12);
  for (int i = 0; i < 8; ++i) {
    bench.submit({.prompt = prompt(10, i),
                  .sampling = {.max_tokens = 20, .n = 1 + i % 2}});
  }
  bench.run();
  EXPECT_EQ(bench.finished.size(), 12U);
  bench.expect_reference();
  EXPECT_GT(bench.engine.stats().preemptions, 0);
}

// Everything of the last sequence is dropped at step k, for every k, and with
// room for a block in a step also at each step.
TEST_P(Modes, PreemptedAtAnyStepAtAnyBudget) {
  for (const std::int64_t tokens : {1, 3, 5, 32}) {
    for (int k = 0; k < 40; ++k) {
      const bool always = k == 0 && tokens == 32;
      EngineOptions options = budget(tokens, GetParam());
      options.scheduler.prefix_caching = always || k % 2 == 0;
      Bench bench(options);
      for (int i = 0; i < 3; ++i) {
        bench.submit({.prompt = prompt(7 + 6 * i, i),
                      .sampling = {.max_tokens = 8, .n = 1 + i}});
      }
      int step = 0;
      while (bench.engine.step()) {
        if (always || step == k || step == k + 1 || step == k + 4) {
          bench.engine.scheduler().preempt_last();
        }
        ASSERT_LT(++step, 10000);
      }
      EXPECT_EQ(bench.finished.size(), 6U);
      bench.expect_reference();
      EXPECT_GE(bench.engine.stats().preemptions, always ? 5 : 0);
    }
  }
}

TEST_P(Modes, CancelledInEveryState) {
  // At step k after submission, whatever it is doing then.
  for (int k = 0; k < 30; ++k) {
    Bench bench(budget(4, GetParam()), 16);
    bench.submit({.prompt = prompt(9), .sampling = {.max_tokens = 8}});
    const std::int64_t doomed = bench.submit(
        {.prompt = prompt(14, 1), .sampling = {.max_tokens = 12, .n = 3}});
    bench.submit({.prompt = prompt(9, 2), .sampling = {.max_tokens = 8}});
    for (int i = 0; i < k; ++i) bench.engine.step();
    bench.engine.cancel(doomed);
    bench.engine.cancel(doomed);  // twice does nothing more
    bench.engine.cancel(99);
    bench.run();
    EXPECT_EQ(bench.finished.size(), 5U) << k;
    bench.expect_reference();
  }
}

TEST_P(Modes, AFailingStepEndsItsRequestsAndNoOthers) {
  Bench bench(budget(64, GetParam()));
  bench.runner.before = [](const StepPlan& plan) {
    if (plan.step == 3) throw std::runtime_error("out of luck");
  };
  bench.submit({.prompt = prompt(9), .sampling = {.max_tokens = 8, .n = 2}});
  bench.run();
  EXPECT_EQ(bench.finished.size(), 2U);
  for (const auto& [key, output] : bench.finished) {
    EXPECT_EQ(output.finish, FinishReason::kError);
    EXPECT_EQ(output.error, "out of luck");
  }
  bench.finished.clear();
  // Nothing of the failed step is believed.
  bench.submit({.prompt = prompt(9), .sampling = {.max_tokens = 8}});
  bench.run();
  EXPECT_EQ(bench.finished.size(), 1U);
  bench.expect_reference();
}

TEST_P(Modes, AFailingStepSparesWhoIsNotInIt) {
  Bench bench(budget(64, GetParam()));
  bench.runner.before = [](const StepPlan& plan) {
    if (plan.step == 2) throw 7;  // not even an exception
  };
  const std::int64_t lost =
      bench.submit({.prompt = prompt(9), .sampling = {.max_tokens = 8}});
  bench.engine.step();
  bench.engine.step();  // the second is on its way, or done
  // Begins like the one that is about to fail.
  const std::int64_t spared = bench.submit(
      {.prompt = prompt(12), .sampling = {.max_tokens = 4, .n = 2}});
  bench.run();
  EXPECT_EQ((bench.finished[{lost, 0}].finish), FinishReason::kError);
  EXPECT_THAT((bench.finished[{lost, 0}].error), HasSubstr("no known type"));
  bench.finished.erase({lost, 0});
  EXPECT_EQ((bench.finished[{spared, 0}].finish), FinishReason::kLength);
  EXPECT_EQ((bench.finished[{spared, 1}].finish), FinishReason::kLength);
  bench.expect_reference();
}

TEST(Engine, WhoLooksBackFarTakesMoreOfTheBudget) {
  EngineOptions options = budget(32);
  options.scheduler.context_per_token = 100;
  Bench bench(options, 600);
  double most = 0;
  std::size_t smallest = 32;
  bench.engine.watch([&](const StepPlan& plan) {
    double cost = 0;
    for (const PlanRow& row : plan.rows) {
      cost +=
          static_cast<double>(row.count) *
          (row.count == 1 ? 1 : 1 + static_cast<double>(row.position) / 100);
    }
    most = std::max(most, cost);
    if (plan.rows[0].count > 1) {
      smallest = std::min(smallest, plan.tokens.size());
    }
  });
  bench.submit({.prompt = prompt(1500), .sampling = {.max_tokens = 4}});
  bench.submit({.prompt = prompt(900, 1), .sampling = {.max_tokens = 4}});
  bench.run();
  EXPECT_LE(most, 33);
  EXPECT_LE(smallest, 4U);
  bench.expect_reference();
}

TEST(Engine, AnswersThatWaitForTheirFirstAreCounted) {
  EngineOptions options = budget(4, false);
  options.max_waiting = 6;
  Bench bench(options);
  bench.submit({.prompt = prompt(12), .sampling = {.n = 5}});
  bench.engine.step();  // the first reads its prompt
  EXPECT_EQ(bench.engine.stats().waiting, 4);
  EXPECT_THROW(bench.submit({.prompt = prompt(3), .sampling = {.n = 3}}),
               AdmissionRefused);
  bench.submit({.prompt = prompt(3), .sampling = {.n = 2}});
  bench.run();
  bench.expect_reference();
}

TEST(Engine, AShortRequestWaitsTwoStepsBesideALongPrompt) {
  Bench bench(budget(32), 600);
  bench.submit({.prompt = prompt(1500), .sampling = {.max_tokens = 4}});
  for (int i = 0; i < 5; ++i) bench.engine.step();
  for (int i = 0; i < 3; ++i) {
    const std::int64_t number = bench.submit(
        {.prompt = prompt(14, i + 1), .sampling = {.max_tokens = 3}});
    bench.engine.step();
    bench.engine.step();
    // And goes on, a token a step, while the long one still reads.
    EXPECT_GE((bench.answers[{number, 0}].size()), 1U) << i;
    bench.engine.step();
    bench.engine.step();
    EXPECT_EQ(bench.finished.count({number, 0}), 1U) << i;
  }
  EXPECT_EQ(bench.finished.size(), 3U);
  bench.run();
  bench.expect_reference();
}

TEST(Engine, StepsStayWithinTheirBudget) {
  Bench bench(budget(20), 200);
  bench.engine.watch([](const StepPlan& plan) {
    EXPECT_LE(plan.tokens.size(), 20U);
    EXPECT_LE(plan.rows.size(), 64U);
  });
  for (int i = 0; i < 30; ++i) {
    bench.submit({.prompt = prompt(5 + i, i), .sampling = {.max_tokens = 5}});
  }
  bench.run();
  bench.expect_reference();
}

TEST(Engine, UrgentOnesComeFirstAndStayLongest) {
  EngineOptions options = budget(16);
  options.policy = scheduling_policy("priority");
  Bench bench(options, /*blocks=*/9);
  const auto ask = [&](std::int64_t priority) {
    return bench.submit(
        {.prompt = prompt(8, static_cast<std::int32_t>(priority)),
         .sampling = {.max_tokens = 12},
         .priority = priority});
  };
  const std::int64_t late = ask(5), soon = ask(3), urgent = ask(0);
  std::vector<std::int64_t> order;
  std::size_t seen = 0;
  for (bool more = true; more;) {
    more = bench.engine.step();
    for (const std::int64_t number : {urgent, soon, late}) {
      if (bench.finished.count({number, 0}) != 0 &&
          std::find(order.begin(), order.end(), number) == order.end()) {
        order.push_back(number);
      }
    }
    ASSERT_LT(++seen, 1000U);
  }
  EXPECT_THAT(order, ElementsAre(urgent, soon, late));
  EXPECT_GT(bench.engine.stats().preemptions, 0);
  bench.expect_reference();
}

TEST(Engine, LimitsOfAdmission) {
  EngineOptions options = budget(16);
  options.max_waiting = 2;
  options.max_waiting_tokens = 20;
  Bench bench(options, 8);
  EXPECT_EQ(bench.engine.max_length(), 28);
  EXPECT_THAT(message_of<UsageError>([&] { bench.submit({}); }),
              HasSubstr("a prompt of 0 tokens"));
  EXPECT_THAT(message_of<UsageError>([&] { bench.submit({prompt(28)}); }),
              HasSubstr("1 to 27"));
  EXPECT_THAT(message_of<UsageError>([&] { bench.submit({{40}}); }),
              HasSubstr("token id 40"));
  EXPECT_THAT(message_of<UsageError>([&] {
                bench.submit({.prompt = {1}, .sampling = {.top_p = 0}});
              }),
              HasSubstr("top_p"));
  bench.submit({prompt(12)});
  EXPECT_THROW(bench.submit({prompt(9)}), AdmissionRefused);  // tokens
  bench.submit({prompt(8)});
  EXPECT_THROW(bench.submit({prompt(1)}), AdmissionRefused);  // requests
  bench.run();
  // Each answer has its prompt; and some can never be taken.
  EXPECT_THAT(message_of<UsageError>([&] {
                bench.submit({.prompt = prompt(11), .sampling = {.n = 2}});
              }),
              HasSubstr("2 answers to 11 tokens"));
  bench.submit({prompt(9)});
  bench.run();
  bench.expect_reference();
  options.end_ids = {40};
  EXPECT_THAT(message_of<UsageError>([&] { Bench with_end(options); }),
              HasSubstr("token id 40"));
  // As long as memory allows, then it ends by length.
  bench.submit({.prompt = prompt(20, 3), .sampling = {.max_tokens = 1000}});
  bench.run();
  EXPECT_EQ(bench.finished.rbegin()->second.finish, FinishReason::kLength);
  EXPECT_EQ(bench.answers.rbegin()->second.size(), 8U);
}

// Arrivals in, schedule out: nothing else decides.
TEST(Engine, ReplayGivesTheSameSchedule) {
  const auto run = [](const std::vector<Arrival>* log, bool asynchronous,
                      std::vector<Arrival>& out) {
    EngineOptions options = budget(12, asynchronous);
    options.record_arrivals = true;
    Bench bench(options, 9);
    std::vector<Request> requests;
    for (int i = 0; i < 12; ++i) {
      requests.push_back({.prompt = prompt(4 + i, i % 3),
                          .sampling = {.max_tokens = 6, .n = 1 + i % 3}});
    }
    std::size_t next = 0;
    const auto due = [&](std::int64_t step) {
      return next < log->size() && (*log)[next].step <= step;
    };
    std::int64_t calls = 0;
    do {
      if (log == nullptr) {
        if (calls % 3 == 0 && calls / 3 < 12) {
          bench.submit(requests[static_cast<std::size_t>(calls / 3)]);
        }
        if (calls == 17) bench.engine.cancel(3);
      } else {
        while (due(bench.engine.stats().steps)) {
          const Arrival& a = (*log)[next++];
          if (a.cancel) {
            bench.engine.cancel(a.request);
          } else {
            bench.submit(requests[static_cast<std::size_t>(a.request)]);
          }
        }
      }
      ++calls;
    } while (bench.engine.step() || calls < 40);
    out = bench.engine.arrivals();
    EXPECT_GT(bench.engine.stats().preemptions, 0);
    return bench.engine.scheduler().schedule_hash();
  };
  for (const bool asynchronous : {false, true}) {
    std::vector<Arrival> log, again;
    const std::uint64_t first = run(nullptr, asynchronous, log);
    EXPECT_EQ(run(&log, asynchronous, again), first);
    EXPECT_EQ(again.size(), log.size());
    log[4].step += 9;  // another arrival, another schedule
    EXPECT_NE(run(&log, asynchronous, again), first);
  }
}

// A listener that throws loses its own answer and nobody else's.
TEST_P(Modes, WhoeverListensBadlyIsCancelled) {
  Bench bench(budget(16, GetParam()));
  bench.submit({.prompt = prompt(9), .sampling = {.max_tokens = 8}});
  Request bad{.prompt = prompt(7, 1), .sampling = {.max_tokens = 8, .n = 2}};
  int heard = 0;
  bad.on_output = [&](const Output&) {
    ++heard;
    throw std::runtime_error("no ears");
  };
  bench.engine.submit(bad);
  bench.run();
  EXPECT_EQ(heard, 2);  // once an answer
  EXPECT_EQ(bench.finished.size(), 1U);
  bench.expect_reference();
}

// Three threads submit and cancel, a fourth looks, one steps.
TEST_P(Modes, OtherThreadsMaySubmitCancelAndLook) {
  EngineOptions options = budget(32, GetParam());
  options.check_ledger = true;
  PretendRunner runner(40, 4);
  Engine engine(options, runner);
  std::atomic<int> submitted{0}, over{0}, senders{3};
  std::vector<std::jthread> threads;
  for (std::int32_t t = 0; t < 3; ++t) {
    threads.emplace_back([&, t] {
      for (std::int32_t i = 0; i < 40; ++i) {
        Request request{.prompt = prompt(3 + i % 9, t),
                        .sampling = {.max_tokens = 4}};
        request.on_output = [&](const Output& output) {
          over += output.finish != FinishReason::kNone ? 1 : 0;
        };
        ++submitted;
        const std::int64_t number = engine.submit(std::move(request));
        if (i % 5 == 0) engine.cancel(number);
      }
      --senders;
    });
  }
  threads.emplace_back([&](const std::stop_token& stop) {
    while (!stop.stop_requested()) {
      const EngineStats stats = engine.stats();
      EXPECT_LE(stats.blocks_free, stats.blocks);
      std::this_thread::yield();
    }
  });
  while (senders > 0 || engine.step() || over < submitted) {
    engine.step();
  }
  threads.back().request_stop();
  threads.clear();
  EXPECT_EQ(submitted, 120);
  EXPECT_EQ(over, 120);
  EXPECT_EQ(engine.stats().blocks_free, 40);
}

TEST(Engine, ResidencyCountsEveryBlock) {
  double now = 0;
  EngineOptions options = budget(64);
  options.now = [&] { return now += 1; };
  Bench bench(options, 8);
  for (int i = 0; i < 20; ++i) {
    bench.submit({.prompt = prompt(16, i % 4), .sampling = {.max_tokens = 3}});
    bench.run();
  }
  const Residency& r = bench.engine.scheduler().blocks().pool().residency();
  const EngineStats stats = bench.engine.stats();
  EXPECT_GE(r.lifetime.count, stats.sharing.evicted);
  EXPECT_EQ(r.lifetime.count, r.idle_before_evict.count);
  EXPECT_GT(stats.sharing.evicted, 0);
  EXPECT_GT(r.lifetime.sum, r.idle_before_evict.sum);
  EXPECT_EQ(std::accumulate(r.lifetime.buckets.begin(),
                            r.lifetime.buckets.end(), std::int64_t{0}),
            r.lifetime.count);
}

}  // namespace
}  // namespace dai::paged
