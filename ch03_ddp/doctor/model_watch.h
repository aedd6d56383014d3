// SPDX-License-Identifier: Apache-2.0
#pragma once

// Watches what a rank trains: are the weights still those of the other ranks,
// is the data its own, is the loss a number?
//
//   ModelWatch model(watch, parameters);
//   model.begin_step(step);                 // hashes the weights, now and then
//   model.saw_data(step, fingerprint(inputs));
//   model.saw_loss(step, loss, [&] { return forward(); });
//
// Weights cost one pass over them at every check: 1/10 of that a step by
// default. A loss that is not finite costs its forward again, with a look at
// what each operator returns.
// Not seen: what becomes infinite in backward only. The gradient's norm shows
// it, on all ranks alike.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "ch01_intro/named_parameter.h"
#include "ch03_ddp/doctor/watch.h"

namespace dai::ddp {

// Of the bytes, 64 bits; equal tensors have equal ones. No cryptography.
std::uint64_t fingerprint(const at::Tensor& tensor);

// The first operator of `forward` that returns something not finite though what
// it was given is, and the parameter that was used last up to there:
// "aten::mul after aten::linear of gate.weight". Empty: all is finite.
std::string first_not_finite(
    const std::vector<intro::NamedParameter>& parameters,
    const std::function<void()>& forward);

class ModelWatch {
 public:
  // Keeps the reference. Looks at the weights before every `every`-th step.
  ModelWatch(Watch& watch, std::vector<intro::NamedParameter> parameters,
             std::int64_t every = 10);

  void begin_step(std::int64_t step);
  void saw_data(std::int64_t step, std::uint64_t fingerprint);
  // `forward` computes the same loss again.
  void saw_loss(std::int64_t step, const at::Tensor& loss,
                const std::function<void()>& forward);

 private:
  Watch& watch_;
  const std::vector<intro::NamedParameter> parameters_;
  const std::int64_t every_;
  bool found_ = false;
};

}  // namespace dai::ddp
