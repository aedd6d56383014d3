// SPDX-License-Identifier: Apache-2.0
#pragma once

// Plays several ranks in a test: threads of this process, or processes that it
// forks, over a medium of choice.
//
//   const auto said = on_ranks({.medium = Medium::kShm, .ranks = 3},
//                              [](Transport& t) { ring_all_reduce(..., t); });
//   EXPECT_THAT(said, Each(""));
//
// A rank says what it threw, or nothing. Checks inside a rank throw (expect()).

#include <chrono>
#include <functional>
#include <string>
#include <vector>

#include "ch02_hardware/transport/shared_segment.h"
#include "ch02_hardware/transport/transport.h"

namespace dai::hardware::testing {

enum class Medium { kThreads, kThreadStreams, kShm, kShmStreams, kTcp };
inline constexpr Medium kAllMedia[] = {Medium::kThreads, Medium::kThreadStreams,
                                       Medium::kShm, Medium::kShmStreams,
                                       Medium::kTcp};
const char* to_string(Medium medium);

struct RunSpec {
  Medium medium = Medium::kThreads;
  int ranks = 1;
  std::chrono::milliseconds timeout{20000};
};

// Makes a rank of a forked medium sleep until all others have ended: alive, and
// deaf.
void stall_until_others_end();

// By rank. A process that dies says "ended by signal 9".
std::vector<std::string> on_ranks(const RunSpec& spec,
                                  const std::function<void(Transport&)>& body);

// Throws with `what` unless `holds`.
void expect(bool holds, const std::string& what);

}  // namespace dai::hardware::testing
