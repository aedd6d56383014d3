// SPDX-License-Identifier: Apache-2.0
#pragma once

// Which module's forward made a node of the autograd graph, from the numbers
// that PyTorch writes beside events (operator_profile.h).
//
//   NodeMakers makers;
//   makers.saw(event, "layers.3.attention");   // a thread's in order of time
//   makers.module_of(node);
//
// An operator carries the number of the node that comes next, so a node with
// number n was made by the last operator that carries n. That holds for
// PyTorch's own; a torch::autograd::Function is no operator. Its node is
// numbered before its forward runs, which then calls operators without
// numbers: the first operator after the last number up to n is inside it, or
// right behind it when it calls none.

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "ch01_intro/profile/operator_profile.h"

namespace dai::intro {

// The engine's event around a node; it carries the node's number.
inline constexpr std::string_view kEngine = "autograd::engine::evaluate";

class NodeMakers {
 public:
  void saw(const ProfiledEvent& event, const std::string& module);
  // Empty when nothing was seen that could have made it.
  std::string module_of(const ProfiledEvent& node) const;

 private:
  struct Seen {
    std::int64_t begin_ns, end_ns, sequence;
    std::string module;
  };
  struct Thread {
    std::vector<Seen> all;
    std::vector<std::size_t> numbered;  // into all; numbers never go down
  };
  std::unordered_map<std::uint64_t, Thread> threads_;
};

}  // namespace dai::intro
