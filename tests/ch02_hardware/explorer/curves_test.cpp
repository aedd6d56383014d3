// SPDX-License-Identifier: Apache-2.0
#include "ch02_hardware/explorer/curves.h"

#include <gmock/gmock.h>

namespace dai::hardware {
namespace {

const std::vector<double> kSizes = {64,    256,    1024,    4096,    16384,
                                    65536, 262144, 1048576, 4194304, 16777216};

std::vector<double> on_a_line(double alpha, double beta, int ranks) {
  const AlgorithmCost cost = cost_of(Collective::kAllReduce, "ring", ranks);
  std::vector<double> seconds;
  for (const double bytes : kSizes) {
    seconds.push_back(cost.steps * alpha + cost.volume * bytes * beta);
  }
  return seconds;
}

TEST(Curves, AStraightLineIsPredictedExactly) {
  const Curve curve = fit_curve(Collective::kAllReduce, "ring", "tcp", 3,
                                kSizes, on_a_line(5e-6, 1e-9, 3));
  EXPECT_LT(curve.held_out_error, 1e-9);
  EXPECT_NEAR(curve.model.lines[0].alpha_s, 5e-6, 1e-12);
  EXPECT_NEAR(curve.model.lines[2].beta_s_per_byte, 1e-9, 1e-15);
}

// A size that the fit has not seen and that is off shows as an error.
TEST(Curves, AnOutlierThatWasHeldOutCounts) {
  auto seconds = on_a_line(5e-6, 1e-9, 3);
  for (std::size_t i = 1; i < seconds.size(); i += 2) seconds[i] *= 2;
  const Curve curve =
      fit_curve(Collective::kAllReduce, "ring", "tcp", 3, kSizes, seconds);
  EXPECT_NEAR(curve.held_out_error, 0.5, 1e-6);
}

TEST(Curves, CrossoversAreWhereAnotherOneIsFaster) {
  Curves curves;
  for (const auto& [name, alpha, beta] :
       {std::tuple{"small", 1e-6, 1e-9}, std::tuple{"large", 1e-4, 1e-10}}) {
    Curve curve;
    curve.algorithm = name;
    for (const double bytes : kSizes) {
      curve.points.push_back({bytes, alpha + beta * bytes, alpha, false});
    }
    curves.curves.push_back(curve);
  }
  const auto all = measured_crossovers(curves);
  ASSERT_EQ(all.size(), 2u);
  EXPECT_EQ(all[0].algorithm, "small");
  EXPECT_EQ(all[1].algorithm, "large");
  EXPECT_EQ(all[1].from_bytes, 262144);
  EXPECT_EQ(predicted_crossovers(curves).size(), 1u);
}

}  // namespace
}  // namespace dai::hardware
