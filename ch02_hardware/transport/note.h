// SPDX-License-Identifier: Apache-2.0
#pragma once

// What ranks tell each other beside the data: which collective they call, that
// they are alive, who is at fault, that they leave. 56 bytes on every wire, in
// the machine's own byte order (all ranks run the same program).

#include <cstdint>

#include "ch02_hardware/transport/transport.h"

namespace dai::hardware {

enum class NoteKind : std::uint8_t {
  kCall,   // I have begun collective number `sequence`
  kAlive,  // I am waiting, too; an answer is due
  kAbort,  // `about` is at fault: see reason; I have given up
  kGoodbye,
};

enum class Fault : std::uint8_t {
  kDied,        // its process, or its connection, is gone
  kLeft,        // it closed its transport
  kNotHere,     // it has not called this collective
  kSilent,      // it called it, and stopped answering within
  kMismatch,    // it called something else
  kStuck,       // it answers, but nothing moves
  kUnreadable,  // its memory cannot be reached any more
};

struct Note {
  NoteKind kind = NoteKind::kCall;
  Fault fault = Fault::kDied;
  Collective what = Collective::kBarrier;
  DType dtype = DType::kFloat32;
  ReduceOp op = ReduceOp::kSum;
  bool pairwise = false;
  std::uint8_t unused[2] = {};
  std::int32_t root = -1;
  std::int32_t about = -1;
  std::uint64_t sequence = 0;
  std::uint64_t count = 0;  // of kAbort: a bit for each of the first 64 ranks
  std::uint32_t algorithm = 0;
  std::uint32_t unused_too = 0;
  // Where the sender's data lies; or, of a pairwise call, how many bytes it
  // sends to the receiver of this note and how many it expects from it.
  std::uint64_t input = 0;
  std::uint64_t output = 0;
};
static_assert(sizeof(Note) == 56);

}  // namespace dai::hardware
