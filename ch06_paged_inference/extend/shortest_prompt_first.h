// SPDX-License-Identifier: Apache-2.0
#pragma once

// An example of a policy of one's own: the shortest prompt first. The mean wait
// for a first token falls, since nobody short waits for somebody long; the long
// ones wait the longer, and for ever under enough short ones.
//
//   options.policy = std::make_shared<ShortestPromptFirst>();

#include "ch06_paged_inference/engine/policy.h"

namespace dai::paged {

class ShortestPromptFirst : public SchedulingPolicy {
 public:
  bool before(const Sequence& a, const Sequence& b) const override {
    return a.prompt_tokens() < b.prompt_tokens();
  }
};

}  // namespace dai::paged
