// SPDX-License-Identifier: Apache-2.0
#include "ch03_ddp/reducer/distributed_data_parallel.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ch03_ddp/exchange/all_reduce_exchange.h"
#include "common/errors.h"
#include "tests/ch03_ddp/support/made_up.h"
#include "tests/support/distributed_test.h"

namespace dai::ddp {
namespace {

using dai::testing::group;
using intro::NamedParameter;
using ::testing::HasSubstr;

// f(0) + ... + f(size - 1), over size.
template <typename F>
float mean_over_ranks(F f) {
  float sum = 0;
  for (int rank = 0; rank < group().size(); ++rank) sum += f(rank);
  return sum / group().size();
}

at::Tensor filled(at::IntArrayRef shape, double value) {
  return at::full(shape, value, at::TensorOptions(group().device()));
}

NamedParameter weight(const std::string& name, at::IntArrayRef shape) {
  return {name, filled(shape, 1).requires_grad_(true)};
}

// The gradient of w is what it is multiplied by: rank + 1, everywhere.
at::Tensor times_rank(const NamedParameter& w) {
  return (w.tensor * (group().rank() + 1)).sum();
}

float expected_gradient() {
  return mean_over_ranks([](int rank) { return rank + 1.f; });
}

void expect_gradient(const NamedParameter& w, float value) {
  ASSERT_TRUE(w.tensor.grad().defined()) << w.name;
  EXPECT_LT((w.tensor.grad().to_dense() - value).abs().max().item<float>(),
            1e-6)
      << w.name << ": " << w.tensor.grad().to_dense();
}

template <typename F>
std::string message_of(F f) {
  try {
    f();
  } catch (const std::exception& error) {
    return error.what();
  }
  return "nothing was thrown";
}

TEST(DistributedDataParallel, GradientsAreTheMeanOverTheRanks) {
  for (const bool view : {false, true}) {
    const std::vector<NamedParameter> model{weight("a", {3, 4}),
                                            weight("b", {5})};
    DistributedDataParallel ddp({.parameters = model}, group(),
                                {.gradient_as_bucket_view = view});
    for (int step = 0; step < 3; ++step) {
      for (const auto& w : model) w.tensor.mutable_grad().reset();
      ddp.forward([&] { return times_rank(model[0]) + times_rank(model[1]); })
          .backward();
      for (const auto& w : model) expect_gradient(w, expected_gradient());
    }
  }
}

TEST(DistributedDataParallel, StartsFromRank0sValuesAndBuffers) {
  const NamedParameter w{"w", filled({3}, group().rank()).requires_grad_(true)};
  const NamedParameter frozen{"frozen", filled({2}, group().rank())};
  const NamedParameter mean{"mean", filled({2}, group().rank())};
  DistributedDataParallel ddp({.parameters = {w, frozen}, .buffers = {mean}},
                              group());
  EXPECT_EQ(w.tensor.abs().sum().item<float>(), 0);
  EXPECT_EQ(frozen.tensor.abs().sum().item<float>(), 0);
  mean.tensor.fill_(group().rank() + 5);
  ddp.forward([&] {
       EXPECT_EQ(mean.tensor[0].item<float>(), 5);  // rank 0's, each time
       return times_rank(w);
     })
      .backward();
  expect_gradient(w, expected_gradient());
  EXPECT_FALSE(frozen.tensor.grad().defined());
}

TEST(DistributedDataParallel, BuffersStayWhereThatIsWanted) {
  const NamedParameter w = weight("w", {3});
  const NamedParameter mean{"mean", filled({2}, 0)};
  DistributedDataParallel ddp({.parameters = {w}, .buffers = {mean}}, group(),
                              {.broadcast_buffers = false});
  mean.tensor.fill_(group().rank());
  ddp.forward([&] { return times_rank(w); }).backward();
  EXPECT_EQ(mean.tensor[0].item<float>(), group().rank());
}

TEST(DistributedDataParallel, AModelThatDiffersIsNamedBeforeTraining) {
  if (group().size() == 1) GTEST_SKIP() << "there is nobody to differ from";
  const bool last = group().rank() == group().size() - 1;
  const std::string who = std::to_string(group().size() - 1);
  const auto refused = [&](ModelTensors model) {
    return message_of(
        [&] { DistributedDataParallel ddp(std::move(model), group()); });
  };
  EXPECT_THAT(
      refused(
          {.parameters = {weight("a", {2}), weight("b", {last ? 4 : 3, 5})}}),
      HasSubstr("rank " + who +
                " has another model than rank 0: parameter #1 "
                "is b Float[4, 5]; on rank 0, parameter #1 is b Float[3, 5]"));
  std::vector<NamedParameter> shorter{weight("a", {2})};
  if (!last) shorter.push_back(weight("b", {2}));
  EXPECT_THAT(refused({.parameters = shorter}),
              HasSubstr("there is no more; on rank 0, parameter #1 is b"));
  NamedParameter half = weight("a", {2});
  if (last) half.tensor = half.tensor.detach().to(at::kDouble).requires_grad_();
  EXPECT_THAT(refused({.parameters = {half}}), HasSubstr("a Double[2]"));
  NamedParameter frozen = weight("a", {2});
  if (last) frozen.tensor.requires_grad_(false);
  EXPECT_THAT(refused({.parameters = {weight("z", {1}), frozen}}),
              HasSubstr("a Float[2], frozen"));
  NamedParameter turned{"a", filled({2, 3}, 1)};
  if (last) turned.tensor = filled({3, 2}, 1).t();
  EXPECT_THAT(refused({.parameters = {weight("z", {1}), turned}}),
              HasSubstr("by strides [1, 2]"));
  EXPECT_THAT(refused({.parameters = {weight("z", {1})},
                       .buffers = {{"m", filled({last ? 1 : 2}, 0)}}}),
              HasSubstr("buffer #0 is m Float[1]"));
}

TEST(DistributedDataParallel, NothingToLearnIsRefused) {
  EXPECT_THAT(message_of([&] {
                DistributedDataParallel ddp(
                    {.parameters = {{"w", filled({2}, 1)}}}, group());
              }),
              HasSubstr("no parameter requires a gradient"));
  EXPECT_THROW(DistributedDataParallel({.parameters = {weight("w", {2})}},
                                       group(), {.bucket_cap_mb = 0}),
               UsageError);
}

TEST(DistributedDataParallel, UnderNoSyncGradientsAddUpAndStay) {
  const NamedParameter w = weight("w", {3});
  DistributedDataParallel ddp({.parameters = {w}}, group());
  for (int step = 0; step < 3; ++step) {
    w.tensor.mutable_grad().reset();
    {
      const auto alone = ddp.no_sync();
      for (int k = 0; k < 3; ++k) {
        ddp.forward([&] { return times_rank(w); }).backward();
        expect_gradient(w, (k + 1) * (group().rank() + 1.f));
      }
    }
    ddp.forward([&] { return times_rank(w); }).backward();
    expect_gradient(w, 4 * expected_gradient());
  }
}

TEST(DistributedDataParallel, AnUnusedParameterIsNamedAtOnce) {
  const std::vector<NamedParameter> model{
      weight("embed.weight", {2}), weight("layers.0.up", {2}),
      weight("layers.0.down", {2}), weight("head.weight", {2})};
  DistributedDataParallel ddp({.parameters = model}, group());
  // On all ranks alike, so that none waits for another.
  ddp.forward([&] { return times_rank(model[0]) + times_rank(model[3]); })
      .backward();
  const std::string says =
      "rank " + std::to_string(group().rank()) +
      ": 2 of 4 parameters got no gradient: layers.0.up, layers.0.down; the "
      "first module not reached is layers";
  EXPECT_THAT(message_of([&] { ddp.check_reduced(); }), HasSubstr(says));
  EXPECT_THAT(
      message_of([&] { ddp.forward([&] { return times_rank(model[0]); }); }),
      HasSubstr(says));
}

TEST(DistributedDataParallel, UnusedParametersAreFoundWhereThatIsAskedFor) {
  const std::vector<NamedParameter> model{weight("a", {2}), weight("b", {3}),
                                          weight("nobody", {4})};
  DistributedDataParallel ddp({.parameters = model}, group(),
                              {.find_unused_parameters = true});
  for (int step = 0; step < 3; ++step) {
    for (const auto& w : model) w.tensor.mutable_grad().reset();
    // b is used by even ranks only.
    ddp.forward([&] {
         at::Tensor sum = times_rank(model[0]);
         if (group().rank() % 2 == 0) sum = sum + times_rank(model[1]);
         return sum;
       })
        .backward();
    expect_gradient(model[0], expected_gradient());
    expect_gradient(model[1], mean_over_ranks([](int rank) {
                      return rank % 2 == 0 ? rank + 1.f : 0.f;
                    }));
    EXPECT_FALSE(model[2].tensor.grad().defined());
  }
}

TEST(DistributedDataParallel, OutputsThatTheLossIgnoresHoldNobodyUp) {
  const std::vector<NamedParameter> model{weight("a", {2}), weight("b", {3})};
  DistributedDataParallel ddp({.parameters = model}, group(),
                              {.find_unused_parameters = true});
  for (int step = 0; step < 2; ++step) {
    for (const auto& w : model) w.tensor.mutable_grad().reset();
    const auto outputs = ddp.forward([&] {
      return std::vector<at::Tensor>{times_rank(model[0]),
                                     times_rank(model[1])};
    });
    outputs[0].backward();
    expect_gradient(model[0], expected_gradient());
    EXPECT_FALSE(model[1].tensor.grad().defined());
  }
}

TEST(DistributedDataParallel, AStaticGraphSkipsTheSameParametersEachTime) {
  const std::vector<NamedParameter> model{weight("a", {2}), weight("b", {3}),
                                          weight("nobody", {4})};
  DistributedDataParallel ddp({.parameters = model}, group(),
                              {.static_graph = true});
  for (int step = 0; step < 4; ++step) {
    for (const auto& w : model) w.tensor.mutable_grad().reset();
    ddp.forward([&] { return times_rank(model[0]) + times_rank(model[1]); })
        .backward();
    for (int i = 0; i < 2; ++i) expect_gradient(model[i], expected_gradient());
  }
}

TEST(DistributedDataParallel, SharedParametersGetOneSum) {
  const NamedParameter w = weight("tied", {3});
  DistributedDataParallel ddp({.parameters = {w}}, group());
  ddp.forward([&] { return times_rank(w) + times_rank(w) * 2; }).backward();
  expect_gradient(w, 3 * expected_gradient());
}

TEST(DistributedDataParallel, SparseGradientsAddUp) {
  if (group().backend_name() != "gloo") {
    GTEST_SKIP() << "only Gloo reduces sparse tensors";
  }
  const NamedParameter table = weight("table", {8, 2});
  const NamedParameter w = weight("w", {2});
  DistributedDataParallel ddp({.parameters = {table, w}, .sparse = {"table"}},
                              group());
  for (int step = 0; step < 3; ++step) {
    for (const auto& each : {table, w}) each.tensor.mutable_grad().reset();
    const at::Tensor row = at::full({1}, group().rank(), at::kLong);
    ddp.forward([&] {
         return at::embedding(table.tensor, row, -1, false, /*sparse=*/true)
                    .sum() +
                times_rank(w);
       })
        .backward();
    EXPECT_TRUE(table.tensor.grad().is_sparse());
    const at::Tensor dense = table.tensor.grad().to_dense();
    for (int r = 0; r < 8; ++r) {
      EXPECT_NEAR(dense[r][0].item<float>(),
                  r < group().size() ? 1.f / group().size() : 0, 1e-6);
    }
    expect_gradient(w, expected_gradient());
  }
}

TEST(DistributedDataParallel, ASecondBackwardOfAGraphIsRefused) {
  const std::vector<NamedParameter> model{weight("a", {2}), weight("b", {3})};
  DistributedDataParallel ddp({.parameters = model}, group());
  const at::Tensor out =
      ddp.forward([&] { return times_rank(model[0]) + times_rank(model[1]); });
  out.backward({}, /*retain_graph=*/true);
  EXPECT_THAT(message_of([&] { out.backward(); }),
              HasSubstr("a second gradient since forward"));
}

TEST(DistributedDataParallel, ABackwardWithoutItsForwardIsRefused) {
  const NamedParameter w = weight("w", {2});
  DistributedDataParallel ddp({.parameters = {w}}, group());
  EXPECT_THAT(message_of([&] { times_rank(w).backward(); }),
              HasSubstr("w: a gradient without a forward before it"));
}

TEST(DistributedDataParallel, EvaluatingChangesNothing) {
  const NamedParameter w = weight("w", {2});
  DistributedDataParallel ddp({.parameters = {w}}, group());
  for (int step = 0; step < 2; ++step) {
    w.tensor.mutable_grad().reset();
    ddp.forward([&] { return times_rank(w); }).backward();
    expect_gradient(w, expected_gradient());
    const at::NoGradGuard no_grad;
    EXPECT_FALSE(ddp.forward([&] { return times_rank(w); }).requires_grad());
  }
}

TEST(DistributedDataParallel, AnExchangeStandsInForTheAllReduce) {
  const std::vector<NamedParameter> model{weight("a", {300}),
                                          weight("b", {500})};
  DistributedDataParallel ddp({.parameters = model}, group(),
                              {.bucket_cap_mb = 1e-3});
  ddp.use_exchange(std::make_unique<AllReduceExchange>(&group()),
                   group().size());
  EXPECT_THROW(
      ddp.use_exchange(std::make_unique<AllReduceExchange>(&group()), 1),
      std::logic_error);
  for (int step = 0; step < 3; ++step) {
    for (const auto& w : model) w.tensor.mutable_grad().reset();
    ddp.forward([&] { return times_rank(model[0]) + times_rank(model[1]); })
        .backward();
    for (const auto& w : model) expect_gradient(w, expected_gradient());
  }
  EXPECT_THAT(ddp.logging_table(), HasSubstr("all_reduce"));
}

// Rank r has r + 1 batches. SGD by hand; rank size - 1 trains to the end.
TEST(DistributedDataParallel, RanksWithFewerBatchesJoin) {
  for (const bool initial : {true, false}) {
    const NamedParameter w = weight("w", {3});
    const NamedParameter mean{"mean", filled({2}, 0)};
    DistributedDataParallel ddp({.parameters = {w}, .buffers = {mean}},
                                group());
    ddp.join(
        [&] {
          for (int k = 0; k <= group().rank(); ++k) {
            w.tensor.mutable_grad().reset();
            ddp.forward([&] { return times_rank(w); }).backward();
            const at::NoGradGuard no_grad;
            w.tensor.sub_(w.tensor.grad());
          }
        },
        {.divide_by_initial_world_size = initial});
    float expected = 1;
    for (int step = 0; step < group().size(); ++step) {
      float sum = 0;
      for (int rank = step; rank < group().size(); ++rank) sum += rank + 1;
      expected -= sum / (initial ? group().size() : group().size() - step);
    }
    EXPECT_NEAR(w.tensor[0].item<float>(), expected, 1e-5);
  }
}

TEST(DistributedDataParallel, ARankWithoutDataCanEndAllOfThem) {
  if (group().size() == 1) GTEST_SKIP() << "there is nobody to end";
  const NamedParameter w = weight("w", {3});
  DistributedDataParallel ddp({.parameters = {w}}, group());
  const int batches = group().rank() == 0 ? 1 : 3;
  const std::string says = message_of([&] {
    ddp.join(
        [&] {
          for (int k = 0; k < batches; ++k) {
            ddp.forward([&] { return times_rank(w); }).backward();
          }
        },
        {.throw_on_early_termination = true});
  });
  EXPECT_EQ(says, group().rank() == 0 ? "rank 0 has no more data"
                                      : "another rank has no more data");
}

TEST(DistributedDataParallel, SaysWhatItsBucketsAre) {
  const std::vector<NamedParameter> model{
      weight("a", {256}), weight("b", {256}), weight("c", {256})};
  DistributedDataParallel ddp({.parameters = model}, group(),
                              {.bucket_cap_mb = 2048. / (1 << 20)});
  for (int step = 0; step < 3; ++step) {
    for (const auto& w : model) w.tensor.mutable_grad().reset();
    ddp.forward([&] {
         return times_rank(model[0]) + times_rank(model[1]) +
                times_rank(model[2]);
       })
        .backward();
  }
  EXPECT_EQ(ddp.bucket_bytes(), (std::vector<std::int64_t>{2048, 1024}));
  const std::string table = ddp.logging_table();
  for (const char* key :
       {"bucket_sizes", "rebuilt_bucket_sizes", "avg_forward_compute_time",
        "avg_backward_compute_time", "avg_backward_comm_time",
        "avg_backward_compute_comm_overlap_time", "world_size"}) {
    EXPECT_THAT(table, HasSubstr(key));
  }
}

}  // namespace
}  // namespace dai::ddp
