// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/first_training.h"

#include <ATen/ops/tensor.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <thread>

#include "ch01_intro/canonical_sum.h"
#include "ch01_intro/counter_random.h"
#include "ch01_intro/data_broadcast.h"
#include "ch01_intro/naive_ddp.h"
#include "ch01_intro/one_against_all.h"
#include "ch01_intro/rank0_alone.h"
#include "common/errors.h"
#include "common/torch/device.h"
#include "common/trace.h"
#include "tests/support/distributed_test.h"

namespace dai::intro {
namespace {

// Noise with one bright row a class: learnable in a few steps.
FashionMnist striped_pictures(std::int64_t count) {
  FashionMnist data;
  data.count = count;
  const std::uint64_t key = stream_key(1234, "pictures");
  for (std::int64_t i = 0; i < count; ++i) {
    const std::uint8_t label = mix64(i) % kClasses;
    data.labels.push_back(label);
    for (std::int64_t p = 0; p < kImagePixels; ++p) {
      const bool bright = p / kImageSide == 2 * label + 3;
      const float noise = uniform01(key, i * kImagePixels + p);
      data.images.push_back(bright ? 255 : static_cast<int>(100 * noise));
    }
  }
  return data;
}

class FirstTraining : public ::testing::Test {
 protected:
  FirstTraining() {
    set_deterministic_threads();
    options_.steps = 8;
    options_.microbatch_size = 7;  // 84 a step: the 300 last 3.6 epochs
    options_.learning_rate = 0.02;
  }
  FirstModel new_model() {
    return FirstModel(options_.seed, testing::group().device());
  }
  const FashionMnist data_ = striped_pictures(300);
  FirstTrainingOptions options_;
};

TEST_F(FirstTraining, ManyRanksAreOneRankBitForBit) {
  ProcessGroup* const group = &testing::group();
  FirstModel alone = new_model(), shared = new_model();
  CanonicalSync alone_sync(alone.parameters(), options_.microbatches, nullptr);
  CanonicalSync shared_sync(shared.parameters(), options_.microbatches, group);
  const auto one =
      train_first_model(alone, data_, alone_sync, nullptr, options_);
  const auto all =
      train_first_model(shared, data_, shared_sync, group, options_);
  EXPECT_EQ(differing_bits(one.loss, all.loss), 0);
  EXPECT_EQ(differing_bits(alone.flat_parameters(), shared.flat_parameters()),
            0);
  EXPECT_LT(all.loss[-1].item<float>(), 0.7f * all.loss[0].item<float>());
}

TEST_F(FirstTraining, NaiveDdpAgreesUpToRounding) {
  ProcessGroup* const group = &testing::group();
  FirstModel alone = new_model(), shared = new_model();
  CanonicalSync alone_sync(alone.parameters(), options_.microbatches, nullptr);
  NaiveDdp shared_sync(shared.parameters(), options_.microbatches, group);
  const auto one =
      train_first_model(alone, data_, alone_sync, nullptr, options_);
  const auto all =
      train_first_model(shared, data_, shared_sync, group, options_);
  EXPECT_LT(one.loss.sub(all.loss).abs().max().item<double>(), 1e-4);
}

TEST_F(FirstTraining, PartsOfAStepAreMeasuredAndSpansRecorded) {
  Trace trace(testing::group().rank(), "host");
  FirstModel model = new_model();
  CanonicalSync sync(model.parameters(), options_.microbatches,
                     &testing::group());
  const double begin_us = steady_us();
  const auto run = train_first_model(model, data_, sync, &testing::group(),
                                     options_, {.trace = &trace});
  const double wall_ms = (steady_us() - begin_us) / 1e3;
  for (const StepPart part : {kData, kForward, kBackward, kOptimizer}) {
    EXPECT_GT(run.step_ms[part], 0) << to_string(part);
  }
  EXPECT_LE(total_ms(run.step_ms) * (options_.steps - 1), wall_ms);
  EXPECT_GE(run.first_step_done_us, begin_us);
  for (const char* name :
       {"data", "forward", "backward", "sync", "optimizer"}) {
    EXPECT_THAT(trace.to_json(), ::testing::HasSubstr(name));
  }
}

TEST_F(FirstTraining, OneAgainstAllFindsNoDifference) {
  const auto both =
      train_one_against_all(testing::group(), data_, striped_pictures(101),
                            options_, Reduction::kCanonical);
  EXPECT_EQ(both.max_loss_difference, 0);
  EXPECT_EQ(both.max_parameter_difference, 0);
  EXPECT_EQ(both.bits_off_one_rank, 0);
  EXPECT_EQ(both.bits_off_rank0, 0);
  // 101 pictures cannot be shared evenly: each must still be counted once.
  EXPECT_EQ(both.one_rank_accuracy, both.all_ranks_accuracy);
  EXPECT_GT(both.all_ranks_accuracy, 0.5);
  EXPECT_EQ(both.all_ranks_loss.size(), 8u);
  // Each part's loss adds up to the step's.
  double lost = 0;
  for (int part = 0; part < kStepParts; ++part) {
    lost += both.scaling.all_ranks[part] -
            both.scaling.one_rank[part] / testing::group().size();
  }
  EXPECT_NEAR(lost,
              total_ms(both.scaling.all_ranks) -
                  total_ms(both.scaling.one_rank) / testing::group().size(),
              1e-9);
}

TEST_F(FirstTraining, DivergenceIsADifferenceNotASuccess) {
  options_.learning_rate = 1e30;  // NaN within a few steps
  const auto both =
      train_one_against_all(testing::group(), data_, striped_pictures(100),
                            options_, Reduction::kCanonical);
  EXPECT_TRUE(std::isinf(both.max_loss_difference));
  EXPECT_TRUE(std::isnan(both.last_to_first_loss()));
}

TEST(MicrobatchesOfRank, CoverAllIdsOnceOrAreRefused) {
  std::int64_t next = 0;
  for (int rank = 0; rank < 4; ++rank) {
    const auto range = microbatches_of_rank(12, rank, 4);
    EXPECT_EQ(range.first, next);
    next += range.count;
  }
  EXPECT_EQ(next, 12);
  try {
    microbatches_of_rank(12, 0, 5);
    FAIL() << "5 ranks cannot share 12 microbatches";
  } catch (const UsageError& error) {
    EXPECT_THAT(error.what(), ::testing::HasSubstr("--microbatches 12"));
    EXPECT_THAT(error.what(), ::testing::HasSubstr("5 ranks"));
  }
}

TEST(DifferingBits, CountsBitsNotDistances) {
  EXPECT_EQ(differing_bits(at::tensor({1.f, 2.f}), at::tensor({1.f, 2.f})), 0);
  EXPECT_EQ(differing_bits(at::tensor({0.f}), at::tensor({-0.f})), 1);
  EXPECT_EQ(differing_bits(at::tensor({1.f, 1.f}), at::tensor({-1.f, 2.f})),
            1 + 8);
}

TEST(DataBroadcast, EveryRankGetsRank0sPictures) {
  const FashionMnist expected = striped_pictures(30);
  FashionMnist data;
  if (testing::group().rank() == 0) data = expected;
  broadcast_from_rank0(data, testing::group());
  EXPECT_EQ(data.count, 30);
  EXPECT_EQ(data.images, expected.images);
  EXPECT_EQ(data.labels, expected.labels);
}

TEST(Rank0Alone, TheOthersWaitUntilItIsDone) {
  ProcessGroup& group = testing::group();
  using std::chrono::milliseconds;
  const double begin_us = steady_us();
  bool worked = false;
  on_rank0_alone(group, [&](const Heartbeat& beat) {
    for (int i = 0; i < 10; ++i) {
      std::this_thread::sleep_for(milliseconds(50));
      beat();
    }
    worked = true;
  });
  EXPECT_EQ(worked, group.rank() == 0);
  EXPECT_GE(steady_us() - begin_us, 0.4e6);
}

}  // namespace
}  // namespace dai::intro
