// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/decoder/decoder_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <set>
#include <string>

#include "common/errors.h"

namespace dai::intro {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

std::string refusal(const DecoderConfig& config) {
  try {
    config.check();
  } catch (const UsageError& error) {
    return error.what();
  }
  return "nothing was refused";
}

// Of the released checkpoints, as their publishers count them.
TEST(DecoderConfig, ReleasedModelsHaveTheirPublishedSize) {
  const std::pair<const char*, std::int64_t> sizes[] = {
      {"smollm2-135m", 134'515'008},
      {"llama-1b", 1'235'814'400},
      {"llama-8b", 8'030'261'248},
      {"llama-70b", 70'553'706'496},
      {"llama-405b", 405'853'388'800}};
  for (const auto& [name, size] : sizes) {
    EXPECT_EQ(decoder_config(name).parameter_count(), size) << name;
  }
}

TEST(DecoderConfig, TheListAddsUpToTheClosedForm) {
  for (const std::string& name : decoder_config_names()) {
    const DecoderConfig config = decoder_config(name);
    EXPECT_EQ(refusal(config), "nothing was refused") << name;
    std::int64_t sum = 0;
    std::set<std::string> names;
    for (const ParameterShape& parameter : config.parameters()) {
      sum += parameter.elements();
      EXPECT_TRUE(names.insert(parameter.name).second) << parameter.name;
    }
    EXPECT_EQ(sum, config.parameter_count()) << name;
    EXPECT_EQ(names.contains("lm_head.weight"), !config.tied_embeddings);
  }
}

TEST(DecoderConfig, OurOwnAreCutEvenlyByTwoThreeAndFourRanks) {
  for (const char* name : {"nano-1m", "small-5m", "bench-9m", "medium-28m",
                           "base-110m", "large-730m"}) {
    const DecoderConfig config = decoder_config(name);
    for (const std::int64_t size : {config.hidden, config.layers, config.heads,
                                    config.kv_heads, config.ffn}) {
      EXPECT_EQ(size % 12, 0) << name << " " << size;
    }
  }
  const DecoderConfig odd = decoder_config("odd-1m");
  for (const std::int64_t ranks : {2, 3, 4}) {
    EXPECT_NE(odd.heads % ranks, 0);
    EXPECT_NE(odd.layers % ranks, 0);
    EXPECT_NE(odd.ffn % ranks, 0);
  }
}

TEST(DecoderConfig, NamesSayTheSize) {
  EXPECT_NEAR(decoder_config("nano-1m").parameter_count(), 1e6, 0.3e6);
  EXPECT_NEAR(decoder_config("small-5m").parameter_count(), 5e6, 0.5e6);
  EXPECT_NEAR(decoder_config("medium-28m").parameter_count(), 28e6, 1e6);
  EXPECT_NEAR(decoder_config("base-110m").parameter_count(), 110e6, 1e6);
  EXPECT_NEAR(decoder_config("large-730m").parameter_count(), 730e6, 5e6);
  EXPECT_NEAR(decoder_config("bench-9m").parameter_count(), 9e6, 1e6);
  EXPECT_NEAR(decoder_config("odd-1m").parameter_count(), 1e6, 0.3e6);
}

TEST(DecoderConfig, RefusalsNameTheNumbers) {
  const DecoderConfig good = decoder_config("nano-1m");
  DecoderConfig bad = good;
  bad.heads = 7;
  EXPECT_THAT(refusal(bad),
              AllOf(HasSubstr("hidden 96"), HasSubstr("7 heads")));
  bad = good;
  bad.kv_heads = 5;
  EXPECT_THAT(refusal(bad), AllOf(HasSubstr("12 heads"), HasSubstr("5 KV")));
  bad = good;
  bad.heads = bad.kv_heads = 32;
  EXPECT_THAT(refusal(bad), HasSubstr("head size 3 = 96 / 32 is odd"));
  bad = good;
  bad.layers = 0;
  EXPECT_THAT(refusal(bad), HasSubstr("layers 0"));
  bad = good;
  bad.norm_eps = std::numeric_limits<double>::quiet_NaN();
  EXPECT_THAT(refusal(bad), HasSubstr("norm_eps nan"));
}

TEST(DecoderConfig, AnUnknownNameIsAnsweredWithTheNearest) {
  const auto answer = [](const char* name) -> std::string {
    try {
      decoder_config(name);
    } catch (const UsageError& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_THAT(answer("lama-8b"), HasSubstr("did you mean llama-8b?"));
  EXPECT_THAT(answer("something-else"), HasSubstr("there are: nano-1m"));
}

}  // namespace
}  // namespace dai::intro
