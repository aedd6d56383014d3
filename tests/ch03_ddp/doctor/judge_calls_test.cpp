// SPDX-License-Identifier: Apache-2.0
#include "ch03_ddp/doctor/judge.h"

#include <gtest/gtest.h>

namespace dai::ddp {
namespace {

// A training step is A, B, C: an all_reduce of a bucket, one of the loss, and a
// broadcast.
constexpr int kCallsInStep = 3;

Call call_at(std::uint64_t sequence) {
  Call call;
  CollectiveEvent& e = call.event;
  e.sequence = sequence;
  e.dtype = "float32";
  e.tensors = 1;
  call.step = static_cast<std::int64_t>(sequence - 1) / kCallsInStep;
  call.state = CallState::kDone;
  switch ((sequence - 1) % kCallsInStep) {
    case 0:
      e.op = "all_reduce", e.shape = {64}, e.reduce_op = "sum";
      e.where = "train.cpp:10";
      break;
    case 1:
      e.op = "all_reduce", e.shape = {1}, e.reduce_op = "sum";
      e.where = "train.cpp:11";
      break;
    default:
      e.op = "broadcast", e.shape = {1}, e.root = 0, e.where = "train.cpp:12";
  }
  return call;
}

// `now`: the call that this rank is in, under its number. Before it all went
// well.
RankReport rank_in(int rank, Call now, bool refused) {
  RankReport report;
  report.rank = rank;
  report.host = "node0";
  report.pid = 1000 + rank;
  report.step = now.step;
  report.phase = "sync";
  report.issued = now.event.sequence;
  report.finished = now.event.sequence - 1;
  for (std::uint64_t k = 1; k < now.event.sequence; ++k) {
    report.calls.push_back(call_at(k));
  }
  if (!report.calls.empty()) report.last_finished = report.calls.back();
  now.state = refused ? CallState::kRefused : CallState::kInFlight;
  report.calls.push_back(now);
  report.current = now;
  report.waiting_s = 1.2;
  return report;
}

// Rank 2 of four is in `odd`, the others in call `sequence`.
std::vector<RankReport> all_but_rank2(std::uint64_t sequence, const Call& odd) {
  std::vector<RankReport> ranks;
  for (int rank = 0; rank < 4; ++rank) {
    ranks.push_back(rank == 2 ? rank_in(2, odd, /*refused=*/true)
                              : rank_in(rank, call_at(sequence), false));
  }
  return ranks;
}

void expect_verdict(const std::vector<RankReport>& ranks, VerdictKind kind,
                    const std::vector<int>& odd = {2}) {
  const auto verdict = judge(ranks);
  ASSERT_TRUE(verdict) << "no verdict, expected " << to_string(kind);
  EXPECT_EQ(to_string(verdict->kind), std::string(to_string(kind)))
      << verdict->to_string();
  EXPECT_EQ(verdict->ranks, odd) << verdict->to_string();
}

constexpr std::uint64_t kA = 16, kB = 17, kC = 18;  // of step 5

TEST(Judge, NamesTheFieldThatDiffers) {
  Call odd = call_at(kB);
  odd.event.dtype = "float64";
  expect_verdict(all_but_rank2(kB, odd), VerdictKind::kDtype);
  odd = call_at(kB);
  odd.event.shape = {2};
  expect_verdict(all_but_rank2(kB, odd), VerdictKind::kShape);
  odd = call_at(kB);
  odd.event.reduce_op = "max";
  expect_verdict(all_but_rank2(kB, odd), VerdictKind::kReduceOp);
  odd = call_at(kC);
  odd.event.root = 2;
  expect_verdict(all_but_rank2(kC, odd), VerdictKind::kRoot);
}

TEST(Judge, WhoIsWhereTheOthersWillBeHasLeftSomethingOut) {
  Call odd = call_at(kC);
  odd.event.sequence = kB;
  expect_verdict(all_but_rank2(kB, odd), VerdictKind::kSkippedCall);
  // The last call of a step: the next step's first comes in its place.
  odd = call_at(kC + 1);
  odd.event.sequence = kC;
  expect_verdict(all_but_rank2(kC, odd), VerdictKind::kSkippedCall);
}

TEST(Judge, WhoIsWhereTheOthersHaveBeenMakesOneTooMany) {
  Call odd = call_at(kB);
  odd.event.sequence = kC;
  expect_verdict(all_but_rank2(kC, odd), VerdictKind::kExtraCall);
  odd = call_at(kC);
  odd.event.sequence = kC + 1;
  expect_verdict(all_but_rank2(kC + 1, odd), VerdictKind::kExtraCall);
}

TEST(Judge, TheNextCallTellsASwapFromAGap) {
  Call odd = call_at(kC);
  odd.event.sequence = kB;
  auto ranks = all_but_rank2(kB, odd);
  Call next = call_at(kB);
  next.event.sequence = kC;
  next.state = CallState::kRefused;
  ranks[2].calls.push_back(next);
  expect_verdict(ranks, VerdictKind::kSwappedOrder);
}

TEST(Judge, ACallThatNobodyElseMakesIsABranch) {
  Call odd = call_at(kB);
  odd.event.op = "all_gather";
  odd.event.where = "train.cpp:99";
  expect_verdict(all_but_rank2(kB, odd), VerdictKind::kBranch);
}

TEST(Judge, WhoGoesHomeHasNoMoreInputs) {
  Call odd = call_at(kA);
  odd.event.op = "barrier";
  odd.event.subject = kGroupEnds;
  expect_verdict(all_but_rank2(kA, odd), VerdictKind::kInputsExhausted);
}

// Whoever comes first writes down its call: it may be the one who is wrong, and
// then all others are refused.
TEST(Judge, TheManyAreRightWhoeverCameFirst) {
  Call odd = call_at(kB);
  odd.event.reduce_op = "max";
  std::vector<RankReport> ranks;
  for (int rank = 0; rank < 4; ++rank) {
    ranks.push_back(rank == 2 ? rank_in(2, odd, false)
                              : rank_in(rank, call_at(kB), true));
  }
  expect_verdict(ranks, VerdictKind::kReduceOp);
}

TEST(Judge, OneAgainstOneTheUsualIsRight) {
  Call odd = call_at(kB);
  odd.event.dtype = "float64";
  for (const int wrong : {0, 1}) {
    std::vector<RankReport> ranks;
    for (int rank = 0; rank < 2; ++rank) {
      ranks.push_back(rank_in(rank, rank == wrong ? odd : call_at(kB),
                              /*refused=*/rank == 1));
    }
    expect_verdict(ranks, VerdictKind::kDtype, {wrong});
  }
}

TEST(Judge, OneAgainstOneInTheFirstStepIsSaidToBeEither) {
  Call odd = call_at(2);
  odd.event.dtype = "float64";
  const std::vector<RankReport> ranks{rank_in(0, odd, false),
                                      rank_in(1, call_at(2), true)};
  expect_verdict(ranks, VerdictKind::kDtype, {0, 1});
  EXPECT_NE(judge(ranks)->sentence.find("or the other way round"),
            std::string::npos);
}

// Of coalesced tensors only the first one's shape is told.
TEST(Judge, CallsThatDifferInTheirBytesOnlyDiffer) {
  Call odd = call_at(kB);
  odd.event.bytes = 12;
  expect_verdict(all_but_rank2(kB, odd), VerdictKind::kShape);
}

TEST(Judge, ACallFromAnotherLineIsTheSameCall) {
  Call odd = call_at(kB);
  odd.event.where = "train.cpp:99";
  EXPECT_EQ(odd.signature(), call_at(kB).signature());
  Call uneven = call_at(kB), other = call_at(kB);
  uneven.event.op = other.event.op = "all_to_all";
  uneven.event.shape = {7};
  EXPECT_EQ(uneven.signature(), other.signature());
}

TEST(Judge, WaitsUntilTheOthersHaveComeBeforeItCountsThem) {
  Call odd = call_at(kB);
  odd.event.reduce_op = "max";
  auto ranks = all_but_rank2(kB, odd);
  // Two have not come yet: one against one.
  for (const int late : {1, 3}) {
    ranks[late] = rank_in(late, call_at(kA), false);
    ranks[late].waiting_s = 0.1;
  }
  for (RankReport& rank : ranks) rank.waiting_s = 0.4;
  EXPECT_FALSE(judge(ranks));
  ranks[2].waiting_s = 1.1;
  EXPECT_TRUE(judge(ranks));
}

class Stall : public ::testing::Test {
 protected:
  // Three wait in kA; rank 2 computes.
  Stall() {
    for (int rank = 0; rank < 4; ++rank) {
      ranks_.push_back(rank_in(rank, call_at(kA), false));
    }
    RankReport& absent = ranks_[2];
    absent.calls.clear();
    absent.current.reset();
    absent.issued = absent.finished = kA - 1;
    absent.phase = "backward";
    absent.phase_s = 1.2;
  }
  std::vector<RankReport> ranks_;
};

TEST_F(Stall, NamesWhoIsMissing) {
  expect_verdict(ranks_, VerdictKind::kRankAbsent);
  const std::string text = judge(ranks_)->to_string();
  EXPECT_NE(text.find("backward for 1.2 s"), std::string::npos) << text;
  EXPECT_NE(text.find("ranks 0, 1, 3 wait there for 1.2 s"), std::string::npos)
      << text;
  EXPECT_NE(text.find("last finished by all: broadcast #15"), std::string::npos)
      << text;
}

// Messages have numbers of their own.
TEST_F(Stall, IsSeenWhileAnotherRankReceives) {
  Call recv;
  recv.event.op = "recv";
  recv.event.sequence = 3;
  ranks_[1].current = recv;
  expect_verdict(ranks_, VerdictKind::kRankAbsent);
}

TEST_F(Stall, AsksForPatience) {
  for (RankReport& rank : ranks_) rank.patience_s = 1.5;
  EXPECT_FALSE(judge(ranks_));
}

TEST_F(Stall, LoadingAndSavingMayTakeTheirTime) {
  for (const char* phase : {"data", "save"}) {
    ranks_[2].phase = phase;
    ranks_[2].phase_s = 5;
    EXPECT_FALSE(judge(ranks_)) << phase;
    ranks_[2].phase_s = 31;
    expect_verdict(ranks_, VerdictKind::kRankAbsent);
  }
  ranks_[2].phase = "paused";
  EXPECT_FALSE(judge(ranks_));
}

TEST_F(Stall, AStepThatIsUsuallyLongIsNotMissed) {
  ranks_[2].step_ms = 500;
  EXPECT_FALSE(judge(ranks_));
  for (RankReport& rank : ranks_) rank.waiting_s = 1.6;
  expect_verdict(ranks_, VerdictKind::kRankAbsent);
}

TEST_F(Stall, SaysWhatBecameOfAProcess) {
  ranks_[2].process = ProcessState::kStopped;
  expect_verdict(ranks_, VerdictKind::kProcessStopped);
  ranks_[2].process = ProcessState::kSilent;
  expect_verdict(ranks_, VerdictKind::kProcessSilent);
  ranks_[2].process = ProcessState::kDead;
  expect_verdict(ranks_, VerdictKind::kProcessDead);
  // Nobody has to wait for it first.
  for (RankReport& rank : ranks_) rank.waiting_s = 0.1;
  expect_verdict(ranks_, VerdictKind::kProcessDead);
  ranks_[2].closed = true;
  EXPECT_FALSE(judge(ranks_)) << "it had ended in good order";
}

TEST_F(Stall, WhoClosedHasNoMoreInputs) {
  ranks_[2].closed = true;
  ranks_[2].process = ProcessState::kDead;
  EXPECT_FALSE(judge({ranks_[2], ranks_[2]}));
  ranks_[2].process = ProcessState::kAlive;
  expect_verdict(ranks_, VerdictKind::kInputsExhausted);
}

TEST_F(Stall, AllThereAndNothingMovesIsTheTransport) {
  ranks_[2] = rank_in(2, call_at(kA), false);
  expect_verdict(ranks_, VerdictKind::kTransport, {});
  ranks_[2].waiting_s = 0.05;  // it has just come
  EXPECT_FALSE(judge(ranks_));
}

TEST_F(Stall, ARanksOwnExceptionIsTheCause) {
  ranks_[2].failure = "cannot read shard 7";
  expect_verdict(ranks_, VerdictKind::kRankFailed);
  ranks_[2].failure = "1 of 3 parameters got no gradient: gate.weight";
  expect_verdict(ranks_, VerdictKind::kUnusedParameter);
  ranks_[1].process = ProcessState::kDead;
  expect_verdict(ranks_, VerdictKind::kProcessDead, {1});
  ranks_[1].process = ProcessState::kAlive;
  // It failed since another did.
  ranks_[2].failed_in_call = true;
  expect_verdict(ranks_, VerdictKind::kRankAbsent);
}

TEST(Judge, HealthyRanksAreLeftAlone) {
  std::vector<RankReport> ranks;
  for (int rank = 0; rank < 4; ++rank) {
    ranks.push_back(rank_in(rank, call_at(kA + rank % 2), false));
    ranks.back().waiting_s = 0.01;
  }
  EXPECT_FALSE(judge(ranks));
  EXPECT_FALSE(judge(std::vector<RankReport>(4)));
}

TEST(JudgeSpeed, TheOneWhoWaitsLeastIsWaitedFor) {
  std::vector<RankReport> ranks(4);
  for (int rank = 0; rank < 4; ++rank) {
    ranks[rank].rank = rank;
    ranks[rank].steps_timed = 20;
    ranks[rank].step_ms = 100;
    ranks[rank].waited_ms = rank == 1 ? 10 : 45;
  }
  const auto verdict = judge_speed(ranks);
  ASSERT_TRUE(verdict);
  EXPECT_EQ(verdict->ranks, std::vector{1});
  EXPECT_NE(verdict->sentence.find("35 of 100 ms, 35 %"), std::string::npos)
      << verdict->sentence;
  ranks[1].waited_ms = 30;  // 15 %
  EXPECT_FALSE(judge_speed(ranks));
  ranks[1].waited_ms = 10;
  ranks[3].steps_timed = 9;
  EXPECT_FALSE(judge_speed(ranks));
}

TEST(JudgeSpeed, MillisecondsAreTheSchedulers) {
  std::vector<RankReport> ranks(2);
  for (int rank = 0; rank < 2; ++rank) {
    ranks[rank].rank = rank;
    ranks[rank].steps_timed = 20;
    ranks[rank].step_ms = 20;
    ranks[rank].waited_ms = rank == 0 ? 1 : 15;
  }
  EXPECT_FALSE(judge_speed(ranks));
}

}  // namespace
}  // namespace dai::ddp
