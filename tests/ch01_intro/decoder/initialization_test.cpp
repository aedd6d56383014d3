// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/decoder/initialization.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include "ch01_intro/counter_random.h"
#include "common/errors.h"

namespace dai::intro {
namespace {

const DecoderConfig& nano() {
  static const DecoderConfig kConfig = decoder_config("nano-1m");
  return kConfig;
}

std::vector<float> initial(const std::string& name, std::int64_t begin,
                           std::int64_t count, std::uint64_t seed = 1234) {
  std::vector<float> out(count);
  fill_initial(nano(), name, seed, begin, out);
  return out;
}

TEST(Initialization, AShardHasTheBitsOfTheWhole) {
  const std::string name = "model.layers.3.mlp.up_proj.weight";
  const std::int64_t elements = 192 * 72;
  const auto whole = initial(name, 0, elements);
  for (const std::int64_t ranks : {2, 3, 4, 7}) {
    std::vector<float> joined;
    for (std::int64_t rank = 0; rank < ranks; ++rank) {
      const std::int64_t begin = elements * rank / ranks;
      const auto shard =
          initial(name, begin, elements * (rank + 1) / ranks - begin);
      joined.insert(joined.end(), shard.begin(), shard.end());
    }
    EXPECT_EQ(joined, whole) << ranks;
  }
}

// The integers were computed by another program, in Python, from the formulas
// in counter_random.h; the scale is 1 here, so all is exact.
TEST(Initialization, TheStreamIsTheOneThatIsDocumented) {
  const std::uint64_t key = stream_key(1234, "model.embed_tokens.weight");
  const double unit = std::sqrt((65536.0 * 65536.0 - 1) / 3);
  const std::pair<std::int64_t, float> expected[] = {
      {0, -58814.0f}, {1, 32107.0f}, {2, 19742.0f}, {12345, -574.0f}};
  for (const auto& [element, value] : expected) {
    float out = 0;
    fill_bell_shaped(key, element, unit, {&out, 1});
    EXPECT_EQ(out, value) << element;
  }
}

TEST(Initialization, DeviationsAreTheStatedOnes) {
  const auto deviation = [](const std::vector<float>& values) {
    double sum = 0, squares = 0;
    for (const double v : values) {
      sum += v;
      squares += v * v;
    }
    const auto n = static_cast<double>(values.size());
    EXPECT_NEAR(sum / n, 0, 4 * 0.02 / std::sqrt(n));
    return std::sqrt(squares / n);
  };
  EXPECT_NEAR(deviation(initial("model.embed_tokens.weight", 0, 2048 * 72)),
              0.02, 0.0002);
  EXPECT_NEAR(
      deviation(initial("model.layers.0.mlp.down_proj.weight", 0, 72 * 192)),
      0.02 / std::sqrt(24.0), 0.0001);
  EXPECT_NEAR(
      deviation(initial("model.layers.0.self_attn.o_proj.weight", 0, 72 * 72)),
      0.02 / std::sqrt(24.0), 0.0001);
  for (const char* norm : {"model.norm.weight",
                           "model.layers.11.post_attention_layernorm.weight"}) {
    EXPECT_EQ(initial(norm, 0, 72), std::vector<float>(72, 1.0f)) << norm;
  }
}

// Bell-shaped: the shares within 1, 2 and 3 deviations of a sum of four
// uniforms (a normal has 68.3, 95.4, 99.7 %).
TEST(Initialization, TheShapeIsABell) {
  const auto values = initial("model.embed_tokens.weight", 0, 2048 * 72);
  const auto within = [&](double deviations) {
    return std::count_if(
               values.begin(), values.end(),
               [&](float v) { return std::abs(v) < deviations * 0.02; }) /
           static_cast<double>(values.size());
  };
  EXPECT_NEAR(within(1), 0.68, 0.02);
  EXPECT_NEAR(within(2), 0.96, 0.01);
  EXPECT_EQ(within(3.47), 1);
}

TEST(Initialization, NamesAndSeedsGiveStreamsOfTheirOwn) {
  std::set<std::vector<float>> distinct;
  int streams = 0;
  for (const std::uint64_t seed : {1, 2, 1234}) {
    for (const ParameterShape& parameter : nano().parameters()) {
      if (initial_deviation(nano(), parameter.name) == 0) continue;
      distinct.insert(initial(parameter.name, 0, 8, seed));
      ++streams;
    }
  }
  EXPECT_EQ(static_cast<int>(distinct.size()), streams);
}

TEST(Initialization, RefusesWhatIsNotThere) {
  EXPECT_THROW(initial("model.layers.12.mlp.up_proj.weight", 0, 1), UsageError);
  EXPECT_THROW(initial("model.norm.weight", 0, 97), std::invalid_argument);
  EXPECT_THROW(initial("model.norm.weight", -1, 1), std::invalid_argument);
  EXPECT_THROW(initial("model.norm.weight", 97, 0), std::invalid_argument);
  EXPECT_NO_THROW(initial("model.norm.weight", 72, 0));
}

}  // namespace
}  // namespace dai::intro
