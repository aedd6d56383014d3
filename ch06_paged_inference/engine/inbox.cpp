// SPDX-License-Identifier: Apache-2.0
#include "ch06_paged_inference/engine/inbox.h"

#include <fmt/format.h>

#include <utility>

namespace dai::paged {

std::int64_t Inbox::submit(Request request) {
  const std::lock_guard lock(mutex_);
  const std::int64_t answers = request.sampling.n;
  const std::int64_t tokens = std::ssize(request.prompt) * answers;
  const Load waits{here_.answers + being_taken_.answers + taken_.answers,
                   here_.tokens + being_taken_.tokens + taken_.tokens};
  if (waits.answers + answers > most_.answers ||
      waits.tokens + tokens > most_.tokens) {
    throw AdmissionRefused(fmt::format("{} answers with {} tokens are waiting",
                                       waits.answers, waits.tokens));
  }
  here_.answers += answers;
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
