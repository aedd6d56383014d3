// SPDX-License-Identifier: Apache-2.0
// The four syncs of the ladder, behind one interface, give one result.

#include <ATen/TensorOperators.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ch01_intro/parameter_bits.h"
#include "ch01_intro/sync/naive_ddp.h"
#include "ch01_intro/trainer/trainer.h"
#include "ch03_ddp/exchange/all_reduce_exchange.h"
#include "ch03_ddp/exchange/canonical_exchange.h"
#include "ch03_ddp/ladder/make_sync.h"
#include "ch03_ddp/ladder/overlapped_ddp.h"
#include "tests/ch03_ddp/support/made_up.h"
#include "tests/support/distributed_test.h"

namespace dai::ddp {
namespace {

using dai::testing::group;
using ::testing::HasSubstr;

constexpr std::int64_t kMicrobatches = 12;
// A few gradients, all of them, and one a bucket.
const std::vector<std::int64_t> kBucketBytes{1, 3000, 1 << 20};

// d/dw (w * c).sum() = c; the mean of 12 * f(0..11) is the sum of f: an
// integer, exact in any order of additions.
TEST(Ladder, MeanEqualsAPlainLoop) {
  const at::TensorOptions on_device(group().device());
  const auto f = [](std::int64_t id, int p) { return id * id + 5 * p; };
  for (const std::string& name : sync_names()) {
    for (const bool canonical : {false, true}) {
      for (const std::int64_t bytes : kBucketBytes) {
        SCOPED_TRACE(name + (canonical ? " canonical " : " ") +
                     std::to_string(bytes));
        std::vector<NamedParameter> weights;
        for (int p = 0; p < 5; ++p) {
          weights.push_back(
              {"weight" + std::to_string(p),
               at::zeros({7 * p + 1, 3}, on_device).requires_grad_(true)});
        }
        const auto sync = testing::make_sync(name, weights, kMicrobatches,
                                             group(), canonical, bytes);
        // The second step must forget the first, the third has other buckets.
        for (int step = 0; step < 3; ++step) {
          testing::run_step(
              *sync, kMicrobatches, group(), [&](std::int64_t id) {
                at::Tensor sum = at::zeros({}, on_device);
                for (int p = 0; p < 5; ++p) {
                  sum = sum +
                        (weights[p].tensor * (kMicrobatches * f(id, p))).sum();
                }
                return sum;
              });
          for (int p = 0; p < 5; ++p) {
            float expected = 0;
            for (int id = 0; id < kMicrobatches; ++id) expected += f(id, p);
            EXPECT_TRUE(
                at::equal(weights[p].tensor.grad(),
                          at::full({7 * p + 1, 3}, expected, on_device)))
                << weights[p].name << " in step " << step;
          }
        }
      }
    }
  }
}

// As gradients of inexact numbers: with two ranks a sum has one order only, and
// all agree to the bit; with more they agree up to rounding.
TEST(Ladder, AllSyncsAgree) {
  const bool exact = group().size() <= 2;
  std::vector<at::Tensor> expected;
  for (const std::string& name : sync_names()) {
    const auto weights = testing::layers(30, {40, 50, 7}, group().device());
    const auto sync = testing::make_sync(name, weights, kMicrobatches, group(),
                                         /*canonical=*/false, 3000);
    for (int step = 0; step < 2; ++step) {
      testing::run_step(*sync, kMicrobatches, group(), [&](std::int64_t id) {
        return testing::loss_of(weights, id);
      });
    }
    const auto gradients = testing::gradients_of(weights);
    if (expected.empty()) expected = gradients;
    for (std::size_t i = 0; i < gradients.size(); ++i) {
      if (exact) {
        EXPECT_EQ(intro::differing_bits(gradients[i], expected[i]), 0)
            << name << " " << i;
      } else {
        EXPECT_LT(intro::max_difference(gradients[i], expected[i]), 1e-7)
            << name << " " << i;
      }
    }
  }
}

// One rank's sum in the tree's order is the reference, at every number of
// ranks, for every sync and bucket size.
TEST(Ladder, CanonicalBitsDependOnNothing) {
  std::vector<at::Tensor> expected;
  {
    const auto weights = testing::layers(30, {40, 50, 7}, group().device());
    std::vector<std::vector<at::Tensor>> rows;  // [parameter][microbatch]
    rows.resize(weights.size());
    for (std::int64_t id = 0; id < kMicrobatches; ++id) {
      testing::loss_of(weights, id).backward();
      for (std::size_t i = 0; i < weights.size(); ++i) {
        rows[i].push_back(weights[i].tensor.grad().clone());
        weights[i].tensor.mutable_grad().reset();
      }
    }
    for (auto& row : rows) {
      for (std::int64_t width = 1; width < kMicrobatches; width *= 2) {
        for (std::int64_t i = 0; i + width < kMicrobatches; i += 2 * width) {
          row[i].add_(row[i + width]);
        }
      }
      expected.push_back(row[0].div(kMicrobatches));
    }
  }
  for (const std::string& name : sync_names()) {
    for (const std::int64_t bytes : kBucketBytes) {
      const auto weights = testing::layers(30, {40, 50, 7}, group().device());
      const auto sync = testing::make_sync(name, weights, kMicrobatches,
                                           group(), /*canonical=*/true, bytes);
      for (int step = 0; step < 3; ++step) {
        testing::run_step(*sync, kMicrobatches, group(), [&](std::int64_t id) {
          return testing::loss_of(weights, id);
        });
        for (std::size_t i = 0; i < weights.size(); ++i) {
          EXPECT_EQ(
              intro::differing_bits(weights[i].tensor.grad(), expected[i]), 0)
              << name << " by " << bytes << ", step " << step << ", "
              << weights[i].name;
        }
      }
    }
  }
}

// Microbatches of unequal weight: `tokens` times the made-up loss. `whole` puts
// all of a step into one graph.
class UnevenTask : public intro::TrainingTask {
 public:
  UnevenTask(const std::vector<NamedParameter>& weights, bool whole)
      : weights_(weights), whole_(whole) {}
  std::int64_t tokens_in_step(std::int64_t) override {
    return kMicrobatches * (kMicrobatches + 1) / 2;
  }
  void load(std::int64_t step, std::int64_t id) override {
    step_ = step;
    id_ = id;
  }
  intro::TokenLoss loss() override {
    if (!whole_) return one(id_);
    intro::TokenLoss all = one(0);
    for (std::int64_t id = 1; id < kMicrobatches; ++id) {
      const intro::TokenLoss next = one(id);
      all = {all.sum + next.sum, all.tokens + next.tokens};
    }
    return all;
  }

 private:
  intro::TokenLoss one(std::int64_t id) const {
    const at::Tensor loss =
        testing::loss_of(weights_, step_ * kMicrobatches + id);
    return {loss * (id + 1), id + 1};
  }
  const std::vector<NamedParameter>& weights_;
  const bool whole_;
  std::int64_t step_ = 0, id_ = 0;
};

std::vector<NamedParameter> trained(intro::GradientSync& sync,
                                    const std::vector<NamedParameter>& weights,
                                    bool whole, ProcessGroup* ranks) {
  UnevenTask task(weights, whole);
  intro::WholeParameters view(weights);
  intro::Trainer trainer(task, sync, view, ranks,
                         {.microbatches = whole ? 1 : kMicrobatches,
                          .schedule = {.peak = 1e-2, .total_steps = 6},
                          .clip_norm = 0.05},
                         group().device());
  for (int step = 0; step < 6; ++step) {
    EXPECT_GT(trainer.step().gradient_norm, 0.05) << "nothing was clipped";
  }
  return weights;
}

// One graph over all microbatches, one backward, no communication.
TEST(Ladder, AccumulationAndClippingAreTheFullBatch) {
  const std::vector<std::int64_t> widths{40, 50, 7};
  const auto make = [&] {
    return testing::layers(30, widths, group().device());
  };
  const auto whole = make();
  intro::NaiveDdp alone(whole, 1, nullptr);
  trained(alone, whole, /*whole=*/true, nullptr);
  for (const std::string& name : sync_names()) {
    for (const bool canonical : {false, true}) {
      const auto weights = make();
      const auto sync = testing::make_sync(name, weights, kMicrobatches,
                                           group(), canonical, 3000);
      trained(*sync, weights, /*whole=*/false, &group());
      EXPECT_LT(intro::max_difference(intro::flat_parameters(weights),
                                      intro::flat_parameters(whole)),
                1e-4)
          << name;
    }
  }
  EXPECT_GT(intro::max_difference(intro::flat_parameters(make()),
                                  intro::flat_parameters(whole)),
            1e-2)
      << "nothing was learnt";
}

TEST(Ladder, AMissingGradientIsNamed) {
  if (group().size() > 1) GTEST_SKIP() << "one rank is enough to see it";
  for (const std::string name : {"bucketed", "overlapped", "reducer"}) {
    const auto weights = testing::layers(5, {5, 5, 5});
    const auto sync =
        testing::make_sync(name, weights, 1, group(), false, 1 << 20);
    try {
      testing::run_step(*sync, 1, group(), [&](std::int64_t id) {
        return testing::loss_of({weights[0], weights[2]}, id);
      });
      FAIL() << name;
    } catch (const std::runtime_error& error) {
      EXPECT_THAT(error.what(),
                  HasSubstr("1 of 3 parameters got no gradient: "
                            "layers.1.weight; the first module not reached is "
                            "layers.1"))
          << name;
    }
  }
}

TEST(OverlappedDdp, FillsBucketsAgainInTheOrderOfTheFirstBackward) {
  // Used in the order 1, 0, so ready in the order 0, 1.
  const auto weights = testing::layers(5, {5, 5}, group().device());
  OverlappedDdp sync(weights, group().size(),
                     std::make_unique<AllReduceExchange>(&group()), {1, 1},
                     &group());
  EXPECT_EQ(sync.buckets().parameters_of(0), std::vector<std::size_t>{1});
  for (int step = 0; step < 2; ++step) {
    testing::run_step(sync, group().size(), group(), [&](std::int64_t id) {
      return testing::loss_of({weights[1], weights[0]}, id);
    });
  }
  EXPECT_TRUE(sync.rebuilt());
  EXPECT_EQ(sync.buckets().parameters_of(0), std::vector<std::size_t>{0});
}

TEST(OverlappedDdp, ASecondBackwardOfAGraphIsRefused) {
  if (group().size() > 1) GTEST_SKIP() << "one rank is enough to see it";
  const auto weights = testing::layers(5, {5, 5});
  OverlappedDdp sync(weights, 1, std::make_unique<AllReduceExchange>(&group()),
                     {}, &group());
  sync.begin_step();
  const intro::Microbatch microbatch{0, true};
  const at::Tensor loss = testing::loss_of(weights, 0);
  sync.before_backward(microbatch, loss);
  loss.backward({}, /*retain_graph=*/true);
  EXPECT_THROW(loss.backward(), std::logic_error);
}

TEST(CanonicalExchange, HoldsFewSumsAndShipsFewSubtrees) {
  CanonicalExchange exchange(1, kMicrobatches, &group());
  const at::Tensor flat = at::zeros({5}, group().device());
  const std::int64_t mine = kMicrobatches / group().size();
  for (std::int64_t k = 0; k < mine; ++k) {
    exchange.keep(0, group().rank() * mine + k, at::full({5}, 1.f));
  }
  exchange.start(
      {.last = true, .flat = flat, .parameters = {0}, .gradients = {flat}});
  exchange.finish();
  EXPECT_TRUE(at::equal(flat, at::full({5}, float(kMicrobatches))));
  EXPECT_LE(exchange.most_held(), 4u);
  EXPECT_LE(exchange.wire_factor(), 2);
}

TEST(CanonicalExchange, RefusesMicrobatchesThatDoNotFit) {
  CanonicalExchange exchange(1, kMicrobatches, &group());
  const std::int64_t mine = kMicrobatches / group().size();
  const std::int64_t first = group().rank() * mine;
  exchange.keep(0, first, at::full({5}, 1.f));
  EXPECT_THROW(exchange.keep(0, first, at::full({5}, 1.f)), std::logic_error);
  EXPECT_THROW(exchange.keep(0, first + mine, at::full({5}, 1.f)),
               std::logic_error);
  const at::Tensor flat = at::zeros({5}, group().device());
  EXPECT_THROW(
      exchange.start(
          {.last = true, .flat = flat, .parameters = {0}, .gradients = {flat}}),
      std::logic_error);
}

}  // namespace
}  // namespace dai::ddp
