// SPDX-License-Identifier: Apache-2.0
#pragma once

// Changes a sequence's logits before a token is drawn: the place for bans,
// grammars, guidance. The book's "extend": derive, and give it to a request's
// SamplingParams::processors.
//
//   class NeverZero : public LogitsProcessor {
//    public:
//     void process(const Sequence&, std::span<float> logits) override {
//       logits[0] = -std::numeric_limits<float>::infinity();
//     }
//   };
//
// What it throws ends the answer, no other.

#include <span>

#include "ch06_paged_inference/engine/request.h"

namespace dai::paged {

class LogitsProcessor {
 public:
  virtual ~LogitsProcessor() = default;
  // In the engine's thread, with [vocab] logits.
  virtual void process(const Sequence& sequence, std::span<float> logits) = 0;
};

}  // namespace dai::paged
