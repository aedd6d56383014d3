// SPDX-License-Identifier: Apache-2.0
#pragma once

// Who comes first: in the queue, in a step, and (backwards) who is preempted.
// The book's "extend": derive, and give it to the engine.
//
//   class ShortestPromptFirst : public SchedulingPolicy {
//    public:
//     bool before(const Sequence& a, const Sequence& b) const override {
//       return a.prompt_tokens() < b.prompt_tokens();
//     }
//   };
//
// The order must not change while a sequence lives; where neither is before the
// other, the earlier arrival is. A policy that lets later ones overtake for
// ever starves someone: that is its to prevent.

#include <memory>
#include <string>

#include "ch06_paged_inference/engine/request.h"

namespace dai::paged {

class SchedulingPolicy {
 public:
  virtual ~SchedulingPolicy() = default;
  virtual bool before(const Sequence& a, const Sequence& b) const = 0;
};

class FirstComeFirstServed : public SchedulingPolicy {
 public:
  bool before(const Sequence&, const Sequence&) const override { return false; }
};

// The smaller Request::priority.
class ByPriority : public SchedulingPolicy {
 public:
  bool before(const Sequence& a, const Sequence& b) const override {
    return a.asked->priority < b.asked->priority;
  }
};

// "fcfs" or "priority". Throws UsageError that lists them.
std::unique_ptr<SchedulingPolicy> scheduling_policy(const std::string& name);

}  // namespace dai::paged
