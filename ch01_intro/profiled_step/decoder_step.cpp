// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/profiled_step/decoder_step.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/ops/randint.h>
#include <ATen/record_function.h>
#include <fmt/format.h>

#include "ch01_intro/profile/operator_profile.h"
#include "common/errors.h"

namespace dai::intro {

DecoderStep::DecoderStep(const DecoderStepOptions& options, at::Device device)
    : options_(options) {
  const DecoderConfig config = decoder_config(options.model);
  if (options.seq > config.max_positions) {
    throw UsageError(fmt::format("--seq {}: decoder {} has {} positions",
                                 options.seq, config.name,
                                 config.max_positions));
  }
  // Checks batch and seq, too.
  analytic_flops(config, options.batch, options.seq);
  DecoderParts parts(config, {.seed = options.seed,
                              .device = device,
                              .ops = &decoder_ops(options.rung)});
  decoder_ = std::make_unique<Decoder>(parts);
  view_ = std::make_unique<WholeParameters>(decoder_->parameters());
  optimizer_ = std::make_unique<AdamW>(*view_, AdamWOptions{});

  const at::Generator random = at::detail::createCPUGenerator(options.seed);
  const at::Tensor windows =
      at::randint(config.vocab_size, {options.batch, options.seq + 1}, random,
                  at::TensorOptions(at::kLong))
          .to(device);
  tokens_ = windows.narrow(1, 0, options.seq).contiguous();
  targets_ = windows.narrow(1, 1, options.seq).contiguous();
}

void DecoderStep::operator()() {
  {
    RECORD_USER_SCOPE(kOptimizerScope);
    for (const NamedParameter& parameter : decoder_->parameters()) {
      parameter.tensor.mutable_grad().reset();
    }
  }
  const at::Tensor sum = decoder_->loss(tokens_, targets_);
  (sum / tokens_.numel()).backward();
  RECORD_USER_SCOPE(kOptimizerScope);
  clip_gradients(*view_, /*limit=*/1);
  optimizer_->step(/*learning_rate=*/3e-4);
}

ExecutionChoices DecoderStep::choices() const {
  return {.head_gradient_in_forward = options_.rung == "fused"};
}

StepFlops DecoderStep::flops() const {
  return analytic_flops(config(), options_.batch, options_.seq, choices());
}

std::vector<std::string> DecoderStep::module_names() const {
  std::vector<std::string> names{"embed"};
  for (std::int64_t layer = 0; layer < config().layers; ++layer) {
    names.push_back(fmt::format("layers.{}.attention", layer));
    names.push_back(fmt::format("layers.{}.feed_forward", layer));
  }
  names.push_back("head");
  return names;
}

}  // namespace dai::intro
