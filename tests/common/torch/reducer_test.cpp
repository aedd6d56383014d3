// SPDX-License-Identifier: Apache-2.0

// The group as c10d::Reducer uses it: two training steps of a linear model,
// data split over the ranks, against the same steps on all data at once.

#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/distributed/c10d/reducer.hpp>

#include <atomic>

#include "common/torch/c10d_compat.h"
#include "tests/support/distributed_test.h"

namespace dai {
namespace {

using dai::testing::group;

class Counter : public CollectiveObserver {
 public:
  void on_end(const CollectiveEvent& event, std::exception_ptr) override {
    if (event.op == "all_reduce") ++all_reduces;
  }
  std::atomic<int> all_reduces{0};
};

// 12 rows, so that 1, 2, 3 and 4 ranks cut evenly. [rows, 3]
at::Tensor rows(std::int64_t first, std::int64_t count) {
  return at::arange(36, at::kFloat)
      .view({12, 3})
      .remainder(5)
      .narrow(0, first, count);
}

at::Tensor loss_of(const std::vector<at::Tensor>& weights,
                   const at::Tensor& x) {
  return at::matmul(at::matmul(x, weights[0]), weights[1]).sum();
}

std::vector<at::Tensor> new_weights() {
  std::vector<at::Tensor> weights{at::ones({3, 4}), at::ones({4, 2})};
  for (at::Tensor& w : weights) w.set_requires_grad(true);
  return weights;
}

void descend(std::vector<at::Tensor>& weights) {
  for (at::Tensor& w : weights) {
    w.data().sub_(w.grad(), 1.0 / 16);  // a power of two: exact
    w.mutable_grad().zero_();
  }
}

TEST(Reducer, TwoStepsEqualTrainingOnAllRows) {
  auto counter = std::make_shared<Counter>();
  group().add_observer(counter);

  const std::int64_t count = 12 / group().size();
  auto weights = new_weights();
  ::c10d::Reducer reducer(
      weights, {{1}, {0}}, group().c10d(), {false, false},
      /*bucket_bytes_cap=*/1, /*find_unused_parameters=*/false,
      /*gradient_as_bucket_view=*/false, /*param_names=*/{},
      /*first_bucket_bytes_cap=*/1, /*skip_all_reduce_unused_params=*/false,
      /*use_python_reducer=*/false, /*bucket_bytes_cap_list=*/{});
  for (int step = 0; step < 2; ++step) {
    reducer.prepare_for_forward();
    // Reducer averages: each rank's loss counts `size` times as much.
    const at::Tensor loss =
        loss_of(weights, rows(count * group().rank(), count)) * group().size();
    reducer.prepare_for_backward({loss});
    torch::autograd::backward({loss}, {});
    descend(weights);
  }

  auto reference = new_weights();
  for (int step = 0; step < 2; ++step) {
    const at::Tensor loss = loss_of(reference, rows(0, 12));
    torch::autograd::backward({loss}, {});
    descend(reference);
  }
  for (std::size_t i = 0; i < weights.size(); ++i) {
    // Not bit for bit: Reducer divides by the ranks before it sums, and a
    // third is not exact.
    EXPECT_TRUE(at::allclose(weights[i], reference[i], 1e-5, 0))
        << weights[i] << "\n"
        << reference[i];
  }
  EXPECT_GE(counter->all_reduces, 4);  // two buckets, two steps
  group().remove_observer(counter);
}

}  // namespace
}  // namespace dai
