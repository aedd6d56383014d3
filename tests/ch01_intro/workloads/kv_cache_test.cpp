// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/workloads/kv_cache.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <stdexcept>

#include "ch01_intro/counter_random.h"
#include "ch01_intro/decoder/decoder.h"
#include "common/errors.h"

namespace dai::intro {
namespace {

DecoderConfig grouped() {
  return {.name = "grouped",
          .vocab_size = 61,
          .hidden = 48,
          .layers = 2,
          .heads = 6,
          .kv_heads = 2,
          .ffn = 40,
          .max_positions = 32};
}

at::Tensor tokens(std::int64_t batch, std::int64_t seq) {
  at::Tensor ids = at::empty({batch, seq}, at::kLong);
  for (std::int64_t i = 0; i < ids.numel(); ++i) {
    ids.data_ptr<std::int64_t>()[i] = static_cast<std::int64_t>(mix64(i) % 61);
  }
  return ids;
}

TEST(KvCache, AnyCutOfATextGivesTheLogitsOfTheWhole) {
  const at::NoGradGuard no_grad;
  const at::Tensor ids = tokens(3, 12);
  DecoderParts whole(grouped());
  const at::Tensor expected = Decoder(whole).logits(ids);
  for (const std::vector<std::int64_t>& cut : {std::vector<std::int64_t>{12},
                                               {7, 1, 1, 1, 1, 1},
                                               {4, 5, 3},
                                               {1, 11}}) {
    KvCache cache(grouped(), 3, 12, at::kCPU);
    CachedParts parts(grouped(), {}, cache);
    const Decoder decoder(parts);
    std::int64_t at = 0;
    for (const std::int64_t count : cut) {
      const at::Tensor part =
          decoder.logits(ids.narrow(1, at, count), cache.length());
      const double off =
          (part - expected.narrow(1, at, count)).abs().max().item<double>();
      EXPECT_LE(off, 1e-5) << "tokens " << at << " of a cut in " << cut.size();
      at += count;
    }
    EXPECT_EQ(cache.length(), 12);
    cache.clear();
    EXPECT_EQ(cache.length(), 0);
  }
}

TEST(KvCache, BytesAreThoseOfTheFormula) {
  const KvCache cache(grouped(), 3, 20, at::kCPU);
  EXPECT_EQ(cache.bytes(), 2 * 4 * 2 * (2 * 8) * 20 * 3);
}

TEST(KvCache, RefusalsNameTheNumbers) {
  KvCache cache(grouped(), 1, 4, at::kCPU);
  CachedParts parts(grouped(), {}, cache);
  const Decoder decoder(parts);
  EXPECT_THROW(decoder.logits(tokens(1, 3)), std::invalid_argument);
  const at::NoGradGuard no_grad;
  EXPECT_THROW(decoder.logits(tokens(2, 3)), std::invalid_argument);
  try {
    decoder.logits(tokens(1, 5));
    FAIL();
  } catch (const UsageError& error) {
    EXPECT_THAT(error.what(), ::testing::HasSubstr("4 positions, 0 + 5"));
  }
}

}  // namespace
}  // namespace dai::intro
