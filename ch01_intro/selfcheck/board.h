// SPDX-License-Identifier: Apache-2.0
#pragma once

// A notice board for ranks of which some may be missing: each posts under a
// topic, anybody reads, and every wait ends at its deadline with whoever has
// come by then. (rendezvous.h's roll_call throws when one is missing; here the
// others still have to tell what they know.)
//
//   Board board(launch, 60s);                  // throws as open_store() does
//   board.post("facts", text);
//   for (const auto& said : board.collect("facts", deadline)) if (said) ...
//
// Lies in the store of the launch, under a prefix of its own. One thread.

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/launch_context.h"

namespace dai::intro {

using Deadline = std::chrono::steady_clock::time_point;

class Board {
 public:
  // Throws UsageError or std::runtime_error: no store, or this rank number is
  // taken by another process.
  Board(const LaunchContext& launch, std::chrono::milliseconds limit);
  ~Board();
  Board(const Board&) = delete;
  Board& operator=(const Board&) = delete;

  // Throws std::runtime_error when rank 0 (or the agent) is gone.
  void post(const std::string& topic, const std::string& text);
  // What rank `from` posted; nothing when it did not by the deadline.
  std::optional<std::string> read(const std::string& topic, int from,
                                  Deadline deadline);
  // Of all ranks, or of `ranks` alone; the others' places stay empty.
  std::vector<std::optional<std::string>> collect(
      const std::string& topic, Deadline deadline,
      const std::vector<int>& ranks);

  // Rank 0, who may serve the store, stays until `ranks` have said goodbye or
  // 2 s are over. Throws nothing.
  void leave(const std::vector<int>& ranks);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// A launch for a second store beside the first one: rank 0 listens at a port
// of its own and posts it; every rank then calls ProcessGroup::connect() with
// the result. Throws std::runtime_error when rank 0 posts none by `deadline`.
LaunchContext second_launch(const LaunchContext& launch, Board& board,
                            Deadline deadline);

}  // namespace dai::intro
