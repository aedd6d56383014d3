// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/profile/node_makers.h"

#include <algorithm>

namespace dai::intro {
namespace {

// "MmBackward0"; functions of our own are called as their C++ type.
bool is_made_by_an_operator(std::string_view node) {
  const std::size_t digits = node.find_last_not_of("0123456789") + 1;
  return digits < node.size() && node.substr(0, digits).ends_with("Backward");
}

}  // namespace

void NodeMakers::saw(const ProfiledEvent& event, const std::string& module) {
  if (event.kind != ProfiledEvent::Kind::kOperator ||
      event.name.starts_with(kEngine)) {
    return;
  }
  Thread& thread = threads_[event.thread];
  if (event.sequence >= 0) thread.numbered.push_back(thread.all.size());
  thread.all.push_back({event.begin_ns, event.end_ns, event.sequence, module});
}

std::string NodeMakers::module_of(const ProfiledEvent& node) const {
  const auto found = threads_.find(node.forward_thread);
  if (node.sequence < 0 || found == threads_.end()) return {};
  const Thread& thread = found->second;
  const auto later = std::partition_point(
      thread.numbered.begin(), thread.numbered.end(),
      [&](std::size_t i) { return thread.all[i].sequence <= node.sequence; });
  const Seen* last = later == thread.numbered.begin()
                         ? nullptr
                         : &thread.all[*std::prev(later)];
  if (is_made_by_an_operator(node.name)) {
    return last != nullptr && last->sequence == node.sequence ? last->module
                                                              : std::string();
  }
  const std::int64_t from = last == nullptr ? INT64_MIN : last->end_ns;
  const auto inside =
      std::partition_point(thread.all.begin(), thread.all.end(),
                           [&](const Seen& s) { return s.begin_ns < from; });
  return inside == thread.all.end() ? std::string() : inside->module;
}

}  // namespace dai::intro
