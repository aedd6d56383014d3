// SPDX-License-Identifier: Apache-2.0
#pragma once

// One training step of a decoder as a function without arguments, for whoever
// measures steps: forward, backward, clipping, fused AdamW, on seeded random
// tokens of a fixed shape. What a step costs does not depend on which tokens.
//
//   DecoderStep step({.model = "bench-9m", .batch = 8, .seq = 128}, device);
//   step();
//   step.flops().total();   // on paper
//
// Errors: UsageError for a model, batch or seq that cannot be.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "ch01_intro/decoder/decoder.h"
#include "ch01_intro/profile/analytic_flops.h"
#include "ch01_intro/trainer/adamw.h"
#include "ch01_intro/trainer/parameter_view.h"

namespace dai::intro {

struct DecoderStepOptions {
  std::string model = "bench-9m";
  std::int64_t batch = 8;
  std::int64_t seq = 128;
  std::string rung = "fused";
  std::uint64_t seed = 1234;
};

class DecoderStep {
 public:
  DecoderStep(const DecoderStepOptions& options, at::Device device);

  // Gradients of the step before are dropped at the start, so that whoever
  // looks after a step finds its own.
  void operator()();

  const DecoderConfig& config() const { return decoder_->config(); }
  const Decoder& decoder() const { return *decoder_; }
  ExecutionChoices choices() const;
  StepFlops flops() const;
  // The scopes that forward opens: "embed", "layers.0.attention", ...
  std::vector<std::string> module_names() const;

 private:
  DecoderStepOptions options_;
  std::unique_ptr<Decoder> decoder_;
  std::unique_ptr<WholeParameters> view_;
  std::unique_ptr<AdamW> optimizer_;
  at::Tensor tokens_, targets_;  // [batch, seq]
};

}  // namespace dai::intro
