// SPDX-License-Identifier: Apache-2.0
// Compressed exchanges: what arrives, what is lost, what feedback brings back,
// and how many bytes go.

#include <ATen/TensorOperators.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <numeric>

#include "ch01_intro/parameter_bits.h"
#include "ch03_ddp/buckets/gradient_buckets.h"
#include "ch03_ddp/hooks/block_int8.h"
#include "ch03_ddp/hooks/half_exchange.h"
#include "ch03_ddp/hooks/int8_exchange.h"
#include "ch03_ddp/hooks/orthogonalize.h"
#include "ch03_ddp/hooks/powersgd_exchange.h"
#include "common/errors.h"
#include "tests/ch03_ddp/support/made_up.h"
#include "tests/support/distributed_test.h"

namespace dai::ddp {
namespace {

using dai::testing::group;

using Shapes = std::vector<std::vector<std::int64_t>>;

// What collectives carry, as the ranks' backend is asked to.
struct Counter : CollectiveObserver {
  std::int64_t bytes = 0;
  void on_begin(const CollectiveEvent& event) override { bytes += event.bytes; }
};

// Sends one bucket of parameters of these shapes, filled with this rank's
// noise, and returns the sum as it arrived.
class OneBucket {
 public:
  explicit OneBucket(const Shapes& shapes) {
    for (const auto& shape : shapes) {
      list_.push_back(
          {"p" + std::to_string(list_.size()),
           at::zeros(shape, group().device()).requires_grad_(true)});
    }
    std::vector<std::size_t> all(list_.size());
    std::iota(all.begin(), all.end(), 0);
    buckets_ = std::make_unique<GradientBuckets>(list_, BucketPlan{all});
  }
  at::Tensor exact_sum(std::int64_t step) const {
    at::Tensor sum = at::zeros_like(flat());
    for (int rank = 0; rank < group().size(); ++rank) {
      sum.add_(values(rank, step));
    }
    return sum;
  }
  at::Tensor send(BucketExchange& exchange, std::int64_t step) {
    flat().copy_(values(group().rank(), step));
    return send_what_is_there(exchange);
  }
  at::Tensor send_what_is_there(BucketExchange& exchange) {
    ReadyBucket ready{.index = 0,
                      .last = true,
                      .flat = flat(),
                      .parameters = buckets_->parameters_of(0)};
    for (const std::size_t i : ready.parameters) {
      ready.gradients.push_back(buckets_->view(i));
    }
    exchange.start(std::move(ready));
    exchange.finish();
    return flat().clone();
  }
  const at::Tensor& flat() const { return buckets_->flat(0); }

 private:
  at::Tensor values(int rank, std::int64_t step) const {
    return testing::noise("rank " + std::to_string(rank), step, flat().sizes(),
                          group().device());
  }
  std::vector<NamedParameter> list_;
  std::unique_ptr<GradientBuckets> buckets_;
};

double error_of(const at::Tensor& got, const at::Tensor& exact) {
  return (got - exact).norm().item<double>() / exact.norm().item<double>();
}

void expect_equal_on_all_ranks(const at::Tensor& tensor) {
  at::Tensor rank0 = tensor.clone();
  group().broadcast(rank0);
  EXPECT_EQ(intro::differing_bits(tensor, rank0), 0);
}

TEST(HalfExchange, LosesWhatTheMantissaCannotHold) {
  OneBucket bucket(Shapes{{100, 30}, {7}});
  for (const auto& [dtype, least, most] :
       {std::tuple{at::kHalf, 1e-6, 1e-3},
        std::tuple{at::kBFloat16, 1e-4, 1e-2}}) {
    HalfExchange exchange(dtype, group());
    const at::Tensor sum = bucket.send(exchange, 0);
    const double error = error_of(sum, bucket.exact_sum(0));
    EXPECT_GT(error, least) << exchange.name();
    EXPECT_LT(error, most) << exchange.name();
    expect_equal_on_all_ranks(sum);
  }
  EXPECT_THROW(HalfExchange(at::kFloat, group()), std::invalid_argument);
}

TEST(HalfExchange, SumsBeyondFloat16sRangeArriveWhole) {
  OneBucket bucket(Shapes{{10}});
  HalfExchange exchange(at::kHalf, group());
  bucket.flat().fill_(60000);
  EXPECT_LT(error_of(bucket.send_what_is_there(exchange),
                     at::full({10}, 60000.f * group().size())),
            1e-3);
}

TEST(Int8Exchange, IsCloseAndEqualOnAllRanks) {
  OneBucket bucket(Shapes{{100, 30}, {7}});
  Int8Exchange exchange(group());
  const at::Tensor sum = bucket.send(exchange, 0);
  EXPECT_LT(error_of(sum, bucket.exact_sum(0)), 0.02);
  EXPECT_GT(error_of(sum, bucket.exact_sum(0)), 1e-4);
  expect_equal_on_all_ranks(sum);
}

// The same gradient again and again: with feedback the mean of what arrives
// goes to the truth as 1 / steps, without it the same is lost each time.
TEST(Int8Exchange, FeedbackBringsBackWhatRoundingTook) {
  constexpr int kSteps = 40;
  double error[2];
  for (const bool feedback : {false, true}) {
    OneBucket bucket(Shapes{{100, 30}});
    Int8Exchange exchange(group(), feedback);
    at::Tensor mean = at::zeros_like(bucket.flat());
    for (int step = 0; step < kSteps; ++step) {
      mean.add_(bucket.send(exchange, 0), 1.0 / kSteps);
    }
    error[feedback] = error_of(mean, bucket.exact_sum(0));
  }
  EXPECT_LT(error[1], error[0] / 10) << error[0];
}

TEST(Int8Exchange, OverflowsAreSeenByEverybody) {
  OneBucket bucket(Shapes{{100, 30}});
  Int8Exchange exchange(group());
  bucket.flat().fill_(1);
  if (group().rank() == 0) {
    bucket.flat()[5] = std::numeric_limits<float>::infinity();
  }
  const at::Tensor sum = bucket.send_what_is_there(exchange);
  EXPECT_FALSE(sum[5].isfinite().item<bool>());
  EXPECT_TRUE(sum[2999].isfinite().item<bool>());
}

// A step that overflows is lost, the next one is not.
TEST(Exchanges, OneBadStepDoesNotPoisonTheNext) {
  Int8Exchange int8(group());
  PowerSgdExchange powersgd({.rank = 4, .start_iter = 2}, group());
  for (BucketExchange* const exchange :
       {static_cast<BucketExchange*>(&int8),
        static_cast<BucketExchange*>(&powersgd)}) {
    OneBucket bucket(Shapes{{60, 40}});
    const at::Tensor left =
        testing::noise("left", 0, {60, 4}, group().device());
    const at::Tensor right =
        testing::noise("right", 0, {4, 40}, group().device());
    const at::Tensor exact = left.mm(right).view({-1}) * group().size();
    for (int step = 0; step < 12; ++step) {
      bucket.flat().copy_(left.mm(right).view({-1}));
      const bool bad = step == 5;
      if (bad && group().rank() == 0) {
        bucket.flat()[7] = std::numeric_limits<float>::infinity();
      }
      const at::Tensor sum = bucket.send_what_is_there(*exchange);
      if (bad) {
        EXPECT_FALSE(sum.isfinite().all().item<bool>()) << exchange->name();
      } else {
        EXPECT_LT(error_of(sum, exact), 0.05) << exchange->name() << step;
        expect_equal_on_all_ranks(sum);
      }
    }
  }
}

// Gradients of nothing, and of one direction only, in between.
TEST(PowerSgd, FindsItsDirectionsAgain) {
  for (const bool feedback : {false, true}) {
    OneBucket bucket(Shapes{{60, 40}});
    PowerSgdExchange exchange(
        {.rank = 4, .start_iter = 2, .use_error_feedback = feedback}, group());
    const at::Tensor left =
        testing::noise("left", 0, {60, 4}, group().device());
    const at::Tensor right =
        testing::noise("right", 0, {4, 40}, group().device());
    const at::Tensor whole = left.mm(right).view({-1});
    const at::Tensor thin =
        left.narrow(1, 0, 1).mm(right.narrow(0, 0, 1)).view({-1});
    double error = 1;
    for (int step = 0; step < 14; ++step) {
      bucket.flat().copy_(step == 4   ? thin
                          : step == 6 ? at::zeros_like(thin)
                                      : whole);
      error =
          error_of(bucket.send_what_is_there(exchange), whole * group().size());
    }
    EXPECT_LT(error, 0.02) << (feedback ? "with" : "without") << " feedback";
  }
}

TEST(Orthogonalize, ColumnsAreOrthonormalAndSpanTheSame) {
  const at::Tensor a = testing::noise("a", 0, {50, 4});
  a.select(1, 3).copy_(a.select(1, 0)).add_(testing::noise("b", 0, {50}), 1e-4);
  at::Tensor q = a.clone();
  orthogonalize(q);
  EXPECT_LT((q.t().mm(q) - at::eye(4)).abs().max().item<float>(), 1e-5);
  EXPECT_LT((q.mm(q.t().mm(a)) - a).abs().max().item<float>(), 1e-5);
}

TEST(Orthogonalize, AColumnWithNothingNewBecomesZero) {
  at::Tensor q = at::zeros({5, 3});
  q.select(1, 0).fill_(2);
  q.select(1, 1).fill_(3);
  EXPECT_EQ(orthogonalize(q), 1);
  EXPECT_NEAR(q.select(1, 0).norm().item<float>(), 1, 1e-6);
  EXPECT_EQ(q.narrow(1, 1, 2).abs().max().item<float>(), 0);
}

TEST(PowerSgd, RefusesOptionsThatMakeNoSense) {
  EXPECT_THROW(PowerSgdOptions{.rank = 0}.check(), UsageError);
  EXPECT_THROW(PowerSgdOptions{.start_iter = 1}.check(), UsageError);
  EXPECT_THROW(PowerSgdOptions{.min_compression_rate = 0}.check(), UsageError);
  EXPECT_NO_THROW((PowerSgdOptions{
      .start_iter = 0, .use_error_feedback = false, .warm_start = false}
                       .check()));
}

TEST(PowerSgd, CompressesWhatIsWorthIt) {
  const PowerSgdOptions options{.rank = 4};
  EXPECT_TRUE(powersgd_compresses({100, 100}, options));  // 1600 < 10000
  EXPECT_FALSE(powersgd_compresses({16, 16}, options));   // 256 = 256
  EXPECT_FALSE(powersgd_compresses({100000}, options));   // a vector
  EXPECT_TRUE(powersgd_compresses({64, 32, 3, 3}, options));
  EXPECT_EQ(powersgd_numbers({100, 100}, options), 800);
  EXPECT_EQ(powersgd_numbers({16, 16}, options), 256);
  EXPECT_EQ(powersgd_numbers({64, 32, 3, 3}, options), (64 + 288) * 4);
}

TEST(PowerSgd, IsExactWhereTheSumHasThatRank) {
  const PowerSgdOptions options{.rank = 2, .start_iter = 2};
  OneBucket bucket(Shapes{{60, 40}, {9}});
  const at::Tensor left = testing::noise("left", 0, {60, 2}, group().device());
  const at::Tensor right =
      testing::noise("right", 0, {2, 40}, group().device());
  PowerSgdExchange exchange(options, group());
  for (int step = 0; step < 5; ++step) {
    bucket.flat().narrow(0, 0, 2400).copy_(left.mm(right).view({-1}));
    bucket.flat().narrow(0, 0, 2400).mul_(group().rank() + 1);
    bucket.flat().narrow(0, 2400, 9).fill_(group().rank());
    const at::Tensor exact_matrix =
        left.mm(right).view({-1}) * (group().size() * (group().size() + 1) / 2);
    const at::Tensor sum = bucket.send_what_is_there(exchange);
    EXPECT_LT(error_of(sum.narrow(0, 0, 2400), exact_matrix), 1e-5) << step;
    EXPECT_EQ(sum[2401].item<float>(),
              group().size() * (group().size() - 1) / 2);
    expect_equal_on_all_ranks(sum);
  }
}

TEST(PowerSgd, FeedbackAndWarmStartBringBackWhatIsLost) {
  constexpr int kSteps = 60;
  double error[2];
  for (const bool feedback : {false, true}) {
    OneBucket bucket(Shapes{{60, 40}});
    PowerSgdExchange exchange({.rank = 2,
                               .start_iter = 2,
                               .use_error_feedback = feedback,
                               .warm_start = feedback},
                              group());
    at::Tensor mean = at::zeros_like(bucket.flat());
    for (int step = 0; step < kSteps; ++step) {
      const at::Tensor sum = bucket.send(exchange, 0);
      if (step >= 2) mean.add_(sum, 1.0 / (kSteps - 2));
    }
    error[feedback] = error_of(mean, bucket.exact_sum(0));
  }
  EXPECT_LT(error[1], error[0] / 2) << error[0];
}

TEST(Exchanges, BytesEqualTheFormula) {
  const std::int64_t numbers = 4096, ranks = group().size();
  const PowerSgdOptions power{.rank = 2,
                              .start_iter = 0,
                              .use_error_feedback = false,
                              .warm_start = false};
  HalfExchange fp16(at::kHalf, group());
  Int8Exchange int8(group());
  PowerSgdExchange powersgd(power, group());
  // Of an all_gather a rank hands over its own part.
  const std::int64_t slice =
      (numbers / kInt8Block + ranks - 1) / ranks * kInt8Block;
  const std::vector<std::tuple<BucketExchange*, std::int64_t>> expected{
      {&fp16, 2 * numbers},
      {&int8, (ranks + 1) * int8_bytes(slice)},
      {&powersgd, 4 * powersgd_numbers({64, 64}, power)}};
  for (const auto& [exchange, bytes] : expected) {
    OneBucket bucket(Shapes{{64, 64}});
    const auto counter = std::make_shared<Counter>();
    group().add_observer(counter);
    bucket.send(*exchange, 0);
    group().remove_observer(counter);
    EXPECT_EQ(counter->bytes, bytes) << exchange->name();
  }
}

}  // namespace
}  // namespace dai::ddp
