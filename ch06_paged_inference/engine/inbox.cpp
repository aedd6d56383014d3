// SPDX-License-Identifier: Apache-2.0
#include "ch06_paged_inference/engine/inbox.h"

#include <fmt/format.h>

#include <utility>

namespace dai::paged {

std::int64_t Inbox::submit(Request request) {
  const std::lock_guard lock(mutex_);
  const std::int64_t tokens = std::ssize(request.prompt) * request.sampling.n;
  const Load waits{here_.requests + being_taken_.requests + taken_.requests,
                   here_.tokens + being_taken_.tokens + taken_.tokens};
  if (waits.requests >= most_.requests ||
      waits.tokens + tokens > most_.tokens) {
    throw AdmissionRefused(fmt::format("{} requests with {} tokens are waiting",
                                       waits.requests, waits.tokens));
  }
  ++here_.requests;
  here_.tokens += tokens;
  commands_.push_back(
      {next_, std::make_shared<const Request>(std::move(request))});
  return next_++;
}

void Inbox::cancel(std::int64_t request) {
  const std::lock_guard lock(mutex_);
  commands_.push_back({request, nullptr});
}

std::vector<Inbox::Command> Inbox::take() {
  const std::lock_guard lock(mutex_);
  being_taken_ = std::exchange(here_, {});
  return std::exchange(commands_, {});
}

void Inbox::set_taken(Load load) {
  const std::lock_guard lock(mutex_);
  taken_ = load;
  being_taken_ = {};
}

bool Inbox::empty() const {
  const std::lock_guard lock(mutex_);
  return commands_.empty();
}

}  // namespace dai::paged
