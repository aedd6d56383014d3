// SPDX-License-Identifier: Apache-2.0
#include "ch03_ddp/buckets/unreached.h"

#include <gtest/gtest.h>

namespace dai::ddp {
namespace {

std::vector<intro::NamedParameter> named(
    const std::vector<std::string>& names) {
  std::vector<intro::NamedParameter> list;
  for (const auto& name : names) list.push_back({name, {}});
  return list;
}

const auto kModel =
    named({"embed.weight", "layers.0.attention.q", "layers.0.mlp.up",
           "layers.0.mlp.down", "layers.1.attention.q", "layers.1.mlp.up",
           "layers.1.mlp.down", "head.weight"});

TEST(Unreached, NothingToSayWhenAllWere) {
  EXPECT_EQ(describe_unreached(kModel, std::vector<bool>(8, true)), "");
  EXPECT_EQ(first_module_not_reached(kModel, std::vector<bool>(8, true)), "");
}

TEST(Unreached, NamesTheOutermostModuleThatWasSkippedWhole) {
  EXPECT_EQ(describe_unreached(
                kModel, {true, true, false, false, true, true, true, true}),
            "2 of 8 parameters got no gradient: layers.0.mlp.up, "
            "layers.0.mlp.down; the first module not reached is layers.0.mlp");
  EXPECT_EQ(first_module_not_reached(
                kModel, {true, true, true, true, false, false, false, true}),
            "layers.1");
  EXPECT_EQ(first_module_not_reached(
                kModel, {true, false, false, false, false, false, false, true}),
            "layers");
}

TEST(Unreached, NamesAParameterWhereItsModuleWasReached) {
  EXPECT_EQ(first_module_not_reached(
                kModel, {true, true, false, true, true, true, true, true}),
            "layers.0.mlp.up");
}

TEST(Unreached, LongListsAreCut) {
  std::vector<std::string> names;
  for (int i = 0; i < 20; ++i) names.push_back("p" + std::to_string(i));
  const std::string text =
      describe_unreached(named(names), std::vector<bool>(20, false));
  EXPECT_NE(text.find("p7, 12 more"), std::string::npos) << text;
}

}  // namespace
}  // namespace dai::ddp
