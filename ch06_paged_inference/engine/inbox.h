// SPDX-License-Identifier: Apache-2.0
#pragma once

// Where other threads leave requests for the engine's: it takes them between
// two steps. Here, too, too many are refused, while they cost nothing yet.
//
//   Inbox inbox({.answers = 1024, .tokens = 1 << 22});
//   const std::int64_t number = inbox.submit(request);   // any thread
//   for (const Inbox::Command& command : inbox.take()) ...

#include <cstdint>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <vector>

#include "ch06_paged_inference/engine/request.h"

namespace dai::paged {

// The queue is full: try again later (a server's 503).
struct AdmissionRefused : std::runtime_error {
  using std::runtime_error::runtime_error;
};

class Inbox {
 public:
  // What waits: here, or taken and not running yet. A request of n answers
  // counts n times, and so do the tokens of its prompt.
  struct Load {
    std::int64_t answers = 0, tokens = 0;
  };
  struct Command {
    std::int64_t request = 0;
    std::shared_ptr<const Request> asked;  // none: cancel
  };

  explicit Inbox(Load most) : most_(most) {}

  // The request's number. Throws AdmissionRefused.
  std::int64_t submit(Request request);
  void cancel(std::int64_t request);

  std::vector<Command> take();  // in the order of their coming
  // What has been taken so far and still waits.
  void set_taken(Load load);
  bool empty() const;

 private:
  Load most_;
  mutable std::mutex mutex_;
  std::vector<Command> commands_;
  Load here_, being_taken_, taken_;
  std::int64_t next_ = 0;
};

}  // namespace dai::paged
