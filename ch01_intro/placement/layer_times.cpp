// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/placement/layer_times.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/randint.h>
#include <fmt/format.h>

#include <functional>
#include <stdexcept>
#include <string_view>
#include <utility>

#include "ch01_intro/decoder/decoder.h"
#include "ch01_intro/profile/flop_counter.h"
#include "ch01_intro/roofline/device_timer.h"

namespace dai::intro {
namespace {

DecoderParts make_parts(const LayerTimeOptions& options,
                        const DecoderConfig& config,
                        const LayerShapes& shapes) {
  if ((std::string_view(options.ops->name) == "fused") != shapes.fused) {
    throw std::invalid_argument(
        fmt::format("layer times: {} operations for shapes of the other rung",
                    options.ops->name));
  }
  return DecoderParts(
      config,
      {.seed = options.seed, .device = options.device, .ops = options.ops});
}

at::Tensor random_tokens(const LayerTimeOptions& options,
                         const DecoderConfig& config,
                         const LayerShapes& shapes) {
  at::Generator generator = at::detail::createCPUGenerator(options.seed);
  return at::randint(config.vocab_size, {shapes.batch, shapes.sequence},
                     generator, at::TensorOptions(at::kLong))
      .to(options.device);
}

}  // namespace

void time_layers(const LayerTimeOptions& options, const DecoderConfig& config,
                 const LayerShapes& shapes, LayerMeasurement& into) {
  const at::NoGradGuard no_grad;
  DecoderParts parts = make_parts(options, config, shapes);
  const DecoderOps& ops = parts.ops();
  into.decoder = config.name;
  into.shapes = shapes;
  into.layers.clear();
  // Times the layer and hands on what it computed.
  const auto timed = [&](const char* name,
                         const std::function<at::Tensor()>& layer) {
    into.layers.push_back(
        {name, repeat_timed(
                   options.device, [&] { layer(); }, options.seconds,
                   /*at_least=*/5, /*at_most=*/200)});
    return layer();
  };
  const auto weight = [&](const char* name) {
    return parts.parameter(fmt::format("model.layers.0.{}.weight", name));
  };
  const auto linear = [&](const char* part, const char* name,
                          const at::Tensor& in, std::int64_t out) {
    const auto projection =
        parts.linear(fmt::format("model.layers.0.{}.{}.weight", part, name),
                     in.size(-1), out);
    return timed(name, [&] { return projection->forward(in); });
  };
  const auto heads = [&](const at::Tensor& x) {
    return x.unflatten(-1, {-1, config.head_dim()});
  };
  const std::int64_t h = config.hidden;
  const std::int64_t kv = config.kv_heads * config.head_dim();
  const double eps = config.norm_eps;
  const RopeTable table = rope_table(shapes.sequence, config.head_dim(),
                                     config.rope_theta, options.device);
  const at::Tensor tokens = random_tokens(options, config, shapes);
  const auto embedding = parts.embedding();

  const at::Tensor x =
      timed("embedding", [&] { return embedding->forward(tokens); });
  const at::Tensor norm = weight("input_layernorm");
  const at::Tensor in =
      timed("input norm", [&] { return ops.rms_norm(x, norm, eps); });
  at::Tensor q = heads(linear("self_attn", "q_proj", in, h));
  at::Tensor k = heads(linear("self_attn", "k_proj", in, kv));
  const at::Tensor v = heads(linear("self_attn", "v_proj", in, kv));
  q = timed("rope of q", [&] { return ops.rope(q, table); });
  k = timed("rope of k", [&] { return ops.rope(k, table); });
  const auto core = parts.attention_core(0);
  const at::Tensor attended =
      timed("attention", [&] { return core->forward(q, k, v); });
  const at::Tensor out = linear("self_attn", "o_proj", attended, h);
  const at::Tensor middle = timed("add attention", [&] { return x + out; });
  const at::Tensor second = weight("post_attention_layernorm");
  const at::Tensor mlp_in = timed(
      "post-attention norm", [&] { return ops.rms_norm(middle, second, eps); });
  const at::Tensor gate = linear("mlp", "gate_proj", mlp_in, config.ffn);
  const at::Tensor up = linear("mlp", "up_proj", mlp_in, config.ffn);
  const at::Tensor activated =
      timed("swiglu", [&] { return ops.swiglu(gate, up); });
  const at::Tensor down = linear("mlp", "down_proj", activated, h);
  const at::Tensor end =
      timed("add feed-forward", [&] { return middle + down; });
  const at::Tensor last = parts.parameter("model.norm.weight");
  const at::Tensor hidden = timed("last norm", [&] {
                              return ops.rms_norm(end, last, eps);
                            }).flatten(0, 1);
  const auto head = parts.output_head(*embedding);
  const at::Tensor targets = tokens.flatten();
  timed("head and loss", [&] { return head->token_loss(hidden, targets); });
}

std::int64_t counted_product_flops(const LayerTimeOptions& options,
                                   const DecoderConfig& config,
                                   const LayerShapes& shapes) {
  const at::NoGradGuard no_grad;
  DecoderParts parts = make_parts(options, config, shapes);
  const Decoder decoder(parts);
  const at::Tensor tokens = random_tokens(options, config, shapes);
  FlopCounter counter;
  decoder.loss(tokens, tokens);
  return counter.total() - counter.attention();
}

std::int64_t expected_product_flops(const DecoderConfig& config,
                                    const LayerShapes& shapes) {
  std::int64_t flops = 0;
  for (const LayerWork& layer : decoder_layers(config, shapes)) {
    flops += layer.count * layer.product_flops;
  }
  return flops;
}

}  // namespace dai::intro
