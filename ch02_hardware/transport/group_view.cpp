// SPDX-License-Identifier: Apache-2.0
#include "ch02_hardware/transport/group_view.h"

#include <algorithm>
#include <stdexcept>
#include <utility>

namespace dai::hardware {

GroupView::GroupView(Transport& transport, std::vector<int> ranks)
    : transport_(transport), ranks_(std::move(ranks)) {
  const auto me = std::find(ranks_.begin(), ranks_.end(), transport.rank());
  if (me == ranks_.end()) {
    throw std::logic_error("GroupView: this rank is not in the group");
  }
  rank_ = static_cast<int>(me - ranks_.begin());
}

void GroupView::exchange(std::span<const Outgoing> outgoing,
                         std::span<const Incoming> incoming) {
  outgoing_.assign(outgoing.begin(), outgoing.end());
  incoming_.assign(incoming.begin(), incoming.end());
  for (Outgoing& out : outgoing_) out.to = ranks_[out.to];
  for (Incoming& in : incoming_) in.from = ranks_[in.from];
  transport_.exchange(outgoing_, incoming_);
}

}  // namespace dai::hardware
