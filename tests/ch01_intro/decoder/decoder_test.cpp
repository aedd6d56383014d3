// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/decoder/decoder.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/cross_entropy_loss.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/custom_function.h>

#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "ch01_intro/counter_random.h"
#include "ch01_intro/decoder/initialization.h"
#include "common/errors.h"
#include "common/torch/device.h"

namespace dai::intro {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Small, and with query heads that share KV heads.
DecoderConfig grouped() {
  return {.name = "grouped",
          .vocab_size = 61,
          .hidden = 48,
          .layers = 3,
          .heads = 6,
          .kv_heads = 2,
          .ffn = 40,
          .max_positions = 32};
}

at::Tensor tokens(std::int64_t batch, std::int64_t seq, std::int64_t vocab,
                  const char* stream = "tokens") {
  at::Tensor ids = at::empty({batch, seq}, at::kLong);
  for (std::int64_t i = 0; i < ids.numel(); ++i) {
    ids.data_ptr<std::int64_t>()[i] =
        static_cast<std::int64_t>(mix64(stream_key(7, stream) + i) % vocab);
  }
  return ids;
}

double max_difference(const at::Tensor& a, const at::Tensor& b) {
  return (a.detach() - b.detach()).abs().max().item<double>();
}

// The gradients of a loss by all parameters, in their order.
std::vector<at::Tensor> gradients(const Decoder& decoder) {
  const std::int64_t vocab = decoder.config().vocab_size;
  for (const NamedParameter& p : decoder.parameters()) {
    at::Tensor tensor = p.tensor;
    tensor.mutable_grad().reset();
  }
  decoder.loss(tokens(2, 9, vocab), tokens(2, 9, vocab, "targets")).backward();
  std::vector<at::Tensor> list;
  for (const NamedParameter& p : decoder.parameters()) {
    list.push_back(p.tensor.grad().clone());
  }
  return list;
}

class DecoderTest : public ::testing::Test {
 protected:
  DecoderTest() { set_deterministic_threads(); }
};

TEST_F(DecoderTest, ParametersAreThoseOfTheConfigWithTheirInitialBits) {
  for (const bool tied : {true, false}) {
    DecoderConfig config = grouped();
    config.tied_embeddings = tied;
    DecoderParts parts(config, {.seed = 99});
    const Decoder decoder(parts);
    const auto shapes = config.parameters();
    ASSERT_EQ(decoder.parameters().size(), shapes.size());
    for (std::size_t i = 0; i < shapes.size(); ++i) {
      const NamedParameter& p = decoder.parameters()[i];
      EXPECT_EQ(p.name, shapes[i].name);
      EXPECT_EQ(p.tensor.sizes(), at::IntArrayRef(shapes[i].shape)) << p.name;
      EXPECT_TRUE(p.tensor.requires_grad() && p.tensor.is_leaf());
      std::vector<float> last(3);
      fill_initial(config, p.name, 99, p.tensor.numel() - 3, last);
      const float* data = p.tensor.data_ptr<float>() + p.tensor.numel() - 3;
      EXPECT_EQ(last, std::vector<float>(data, data + 3)) << p.name;
    }
  }
}

TEST_F(DecoderTest, TheLargestHasShapesAndNoBytesOnTheMetaDevice) {
  DecoderConfig config = decoder_config("llama-405b");
  DecoderParts parts(config, {.device = at::kMeta});
  const Decoder decoder(parts);
  std::int64_t elements = 0;
  for (const NamedParameter& p : decoder.parameters()) {
    EXPECT_TRUE(p.tensor.is_meta());
    elements += p.tensor.numel();
  }
  EXPECT_EQ(elements, config.parameter_count());
}

TEST_F(DecoderTest, TheLossIsTheCrossEntropyOfTheLogits) {
  for (const DecoderOps* ops : {&naive_ops(), &fused_ops()}) {
    DecoderParts parts(grouped(), {.ops = ops});
    const Decoder decoder(parts);
    const at::Tensor in = tokens(2, 11, 61), out = tokens(2, 11, 61, "t");
    const at::Tensor expected =
        at::cross_entropy_loss(decoder.logits(in).flatten(0, 1), out.flatten(),
                               {}, at::Reduction::Sum);
    const double loss = decoder.loss(in, out).item<double>();
    EXPECT_NEAR(loss, expected.item<double>(), 1e-5 * loss) << ops->name;
    // Untrained, each token costs about as much as guessing.
    EXPECT_NEAR(loss / 22, std::log(61.0), 0.2);
  }
}

TEST_F(DecoderTest, BothRungsHaveTheSameGradients) {
  DecoderParts naive(grouped(), {.ops = &naive_ops()});
  DecoderParts fused(grouped(), {.ops = &fused_ops()});
  const Decoder a(naive), b(fused);
  const auto expected = gradients(a), actual = gradients(b);
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const double scale = expected[i].abs().max().item<double>();
    EXPECT_GT(scale, 0) << a.parameters()[i].name;
    EXPECT_LE(max_difference(actual[i], expected[i]), 1e-5 * scale)
        << a.parameters()[i].name;
  }
}

TEST_F(DecoderTest, NoTokenSeesTheFuture) {
  DecoderParts parts(grouped());
  const Decoder decoder(parts);
  const at::Tensor before = tokens(1, 12, 61);
  at::Tensor after = before.clone();
  after[0][8] = (after[0][8].item<std::int64_t>() + 1) % 61;
  const at::Tensor a = decoder.logits(before), b = decoder.logits(after);
  EXPECT_EQ(max_difference(a.narrow(1, 0, 8), b.narrow(1, 0, 8)), 0);
  EXPECT_GT(max_difference(a.narrow(1, 8, 1), b.narrow(1, 8, 1)), 1e-4);
}

// --- Parts that others bring along -----------------------------------------

struct NaiveAttentionParts : DecoderParts {
  using DecoderParts::DecoderParts;
  std::unique_ptr<AttentionCore> attention_core(std::int64_t) override {
    return naive_attention_core();
  }
};

TEST_F(DecoderTest, SpelledOutAttentionIsTheFusedKernels) {
  DecoderParts fused(grouped());
  NaiveAttentionParts naive(grouped());
  const Decoder a(fused), b(naive);
  const auto expected = gradients(b), actual = gradients(a);
  for (std::size_t i = 0; i < expected.size(); ++i) {
    EXPECT_LE(max_difference(actual[i], expected[i]),
              1e-5 * expected[i].abs().max().item<double>())
        << a.parameters()[i].name;
  }
}

// Keeps keys and values from call to call, as generation does.
struct CachedParts : DecoderParts {
  using DecoderParts::DecoderParts;
  struct Core : AttentionCore {
    at::Tensor forward(const at::Tensor& q, const at::Tensor& k,
                       const at::Tensor& v) override {
      keys = keys.defined() ? at::cat({keys, k}, 1) : k;
      values = values.defined() ? at::cat({values, v}, 1) : v;
      // One new token sees everything, so no mask is needed.
      EXPECT_EQ(q.size(1), 1);
      const at::Tensor padded = at::cat(
          {q.new_zeros({q.size(0), keys.size(1) - 1, q.size(2), q.size(3)}), q},
          1);
      return naive_attention_core()
          ->forward(padded, keys, values)
          .narrow(1, keys.size(1) - 1, 1);
    }
    at::Tensor keys, values;
  };
  std::unique_ptr<AttentionCore> attention_core(std::int64_t) override {
    return std::make_unique<Core>();
  }
};

TEST_F(DecoderTest, ACoreThatRemembersGeneratesTheSameLogits) {
  const at::NoGradGuard no_grad;
  DecoderParts whole(grouped());
  CachedParts cached(grouped());
  const Decoder a(whole), b(cached);
  const at::Tensor ids = tokens(2, 7, 61);
  const at::Tensor expected = a.logits(ids);
  for (std::int64_t position = 0; position < 7; ++position) {
    const at::Tensor one = b.logits(ids.narrow(1, position, 1), position);
    EXPECT_LE(max_difference(one, expected.narrow(1, position, 1)), 1e-5);
  }
}

// W x + B (A x) with B = 0 at first: low-rank adaptation.
struct LoraParts : DecoderParts {
  using DecoderParts::DecoderParts;
  struct Layer : Linear {
    std::unique_ptr<Linear> plain;
    NamedParameter a, b;
    at::Tensor forward(const at::Tensor& x) const override {
      return plain->forward(x) + x.matmul(a.tensor).matmul(b.tensor);
    }
    void add_parameters(std::vector<NamedParameter>& list) const override {
      plain->add_parameters(list);
      list.insert(list.end(), {a, b});
    }
  };
  std::unique_ptr<Linear> linear(const std::string& name, std::int64_t in,
                                 std::int64_t out) override {
    auto plain = DecoderParts::linear(name, in, out);
    if (!name.ends_with("q_proj.weight")) return plain;
    auto layer = std::make_unique<Layer>();
    layer->plain = std::move(plain);
    layer->a = {name + ".lora_a", at::ones({in, 2}).requires_grad_()};
    layer->b = {name + ".lora_b", at::zeros({2, out}).requires_grad_()};
    return layer;
  }
};

TEST_F(DecoderTest, ALinearIsSwappedWithoutTheDecoderKnowing) {
  DecoderParts plain(grouped());
  LoraParts adapted(grouped());
  const Decoder a(plain), b(adapted);
  EXPECT_EQ(b.parameters().size(), a.parameters().size() + 2 * 3);
  const at::Tensor ids = tokens(1, 5, 61);
  EXPECT_EQ(max_difference(a.logits(ids), b.logits(ids)), 0);
  const auto list = gradients(b);
  for (std::size_t i = 0; i < list.size(); ++i) {
    if (b.parameters()[i].name.ends_with("lora_b")) {
      EXPECT_GT(list[i].abs().max().item<double>(), 0);
    }
  }
}

// Keeps a block's input only and computes the block again in backward.
struct Recompute : torch::autograd::Function<Recompute> {
  static at::Tensor forward(torch::autograd::AutogradContext* context,
                            const at::Tensor& x,
                            const BlockWrapper::Block& block) {
    context->save_for_backward({x});
    context->saved_data["block"] =
        reinterpret_cast<std::int64_t>(new BlockWrapper::Block(block));
    const at::NoGradGuard no_grad;
    return block(x);
  }
  static torch::autograd::variable_list backward(
      torch::autograd::AutogradContext* context,
      const torch::autograd::variable_list& gradients) {
    const std::unique_ptr<BlockWrapper::Block> block(
        reinterpret_cast<BlockWrapper::Block*>(
            context->saved_data["block"].toInt()));
    const at::AutoGradMode grad(true);
    const at::Tensor x =
        context->get_saved_variables()[0].detach().requires_grad_();
    (*block)(x).backward(gradients[0]);
    return {x.grad(), {}};
  }
};
struct CheckpointParts : DecoderParts {
  using DecoderParts::DecoderParts;
  struct Wrapper : BlockWrapper {
    at::Tensor forward(const Block& block, const at::Tensor& x) override {
      return Recompute::apply(x, block);
    }
  };
  std::unique_ptr<BlockWrapper> block_wrapper(std::int64_t) override {
    return std::make_unique<Wrapper>();
  }
};

TEST_F(DecoderTest, ActivationsCutAtTheBlocksGiveTheSameGradientBits) {
  DecoderParts plain(grouped());
  CheckpointParts cut(grouped());
  const Decoder a(plain), b(cut);
  const auto expected = gradients(a), actual = gradients(b);
  for (std::size_t i = 0; i < expected.size(); ++i) {
    EXPECT_TRUE(at::equal(expected[i], actual[i])) << a.parameters()[i].name;
  }
}

struct LoggedParts : DecoderParts {
  LoggedParts(const DecoderConfig& config, std::vector<std::string>& log)
      : DecoderParts(config), log_(log) {}
  struct Wrapper : HookedBlock {
    Wrapper(std::vector<std::string>& log, std::int64_t layer)
        : log_(log), layer_(std::to_string(layer)) {}
    void before_forward() override { log_.push_back("gather " + layer_); }
    void after_forward() override { log_.push_back("free " + layer_); }
    void before_backward() override { log_.push_back("again " + layer_); }
    void after_backward() override { log_.push_back("reduce " + layer_); }
    std::vector<std::string>& log_;
    std::string layer_;
  };
  std::unique_ptr<BlockWrapper> block_wrapper(std::int64_t layer) override {
    return std::make_unique<Wrapper>(log_, layer);
  }
  std::vector<std::string>& log_;
};

TEST_F(DecoderTest, HooksComeInTheOrderThatShardingNeeds) {
  DecoderConfig config = grouped();
  config.layers = 2;
  std::vector<std::string> log;
  LoggedParts parts(config, log);
  const Decoder decoder(parts);
  gradients(decoder);
  EXPECT_THAT(log, ElementsAre("gather 0", "free 0", "gather 1", "free 1",
                               "again 1", "reduce 1", "again 0", "reduce 0"));
}

// --- Refusals --------------------------------------------------------------

std::string refusal(const Decoder& decoder, const at::Tensor& in,
                    const at::Tensor& out) {
  try {
    decoder.loss(in, out);
  } catch (const UsageError& error) {
    return error.what();
  }
  return "nothing was refused";
}

TEST_F(DecoderTest, RefusalsSayWhatWasGiven) {
  DecoderParts parts(grouped());
  const Decoder decoder(parts);
  const at::Tensor good = tokens(2, 4, 61);
  EXPECT_THAT(refusal(decoder, good[0], good[0]), HasSubstr("[4], [batch"));
  EXPECT_THAT(refusal(decoder, good.to(at::kInt), good), HasSubstr("int64"));
  EXPECT_THAT(refusal(decoder, good, good.narrow(1, 0, 3)),
              HasSubstr("[2, 3], int64 [2, 4] like the tokens"));
  const at::Tensor long_ones = tokens(1, 33, 61);
  EXPECT_THAT(refusal(decoder, long_ones, long_ones),
              HasSubstr("positions 0 to 32: the decoder has 32"));
  DecoderConfig odd = grouped();
  odd.heads = 5;
  EXPECT_THROW(DecoderParts{odd}, UsageError);
}

}  // namespace
}  // namespace dai::intro
