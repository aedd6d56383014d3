// SPDX-License-Identifier: Apache-2.0
#pragma once

// Who sends what to whom in which step: an algorithm run for real, on threads,
// with its messages written down (recording_transport.h), and put in steps. A
// step is as early as it can be: one after the rank's step before, and one
// after the step in which the sender last had to wait.
//
//   const Schedule ring = record_schedule(
//       algorithm_by_name(Collective::kAllReduce, "ring"), 4, 4);
//   fmt::print("{}", schedule_text(ring));
//   write_file_atomically("ring.svg", schedule_svg(ring));

#include <string>
#include <vector>

#include "ch02_hardware/collectives/algorithms.h"
#include "ch02_hardware/explorer/recording_transport.h"

namespace dai::hardware {

struct Message {
  int step = 0;  // from 1
  int from = 0, to = 0;
  // What of the buffer it carries, at the receiver where that tells, else at
  // the sender: elements [first, first + count); first -1: scratch memory.
  std::int64_t first = -1;
  std::int64_t count = 0;
  bool combined = false;  // the receiver adds it to what it has
};

struct Schedule {
  Collective what = Collective::kAllReduce;
  std::string algorithm;
  int ranks = 0;
  std::int64_t count = 0;  // elements, as in operands.h
  int steps = 0;
  std::vector<Message> messages;            // by step, then by sender
  std::vector<std::int64_t> sent_elements;  // by rank
  std::size_t wrong_elements = 0;           // the run was checked, too
};

// count as in operands.h, of float32. Throws UsageError for an algorithm that
// sends no messages (Needs::kSlots, Needs::kMemory) and for barriers.
Schedule record_schedule(const Algorithm& algorithm, int ranks,
                         std::int64_t count);

std::string schedule_text(const Schedule& schedule);
// A picture of its own: ranks from left to right, steps downward.
std::string schedule_svg(const Schedule& schedule);

}  // namespace dai::hardware
