// SPDX-License-Identifier: Apache-2.0
#pragma once

// Trains as many steps as each line on rank 0's stdin says, on all ranks, so
// that several programs can be measured side by side in turns
// (ch03_ddp/bench/bench.py). Answers each line with one JSON line on rank 0:
// {"step_ms": [...], "loss": ..., "peak_rss_bytes": ...}, times of rank 0.
//
// Between turns the other ranks wait in a broadcast: --timeout-s is to be
// longer than any pause.

#include <cstdint>
#include <iosfwd>

#include "ch01_intro/corpus/token_corpus.h"
#include "ch03_ddp/train/train_run.h"

namespace dai::ddp {

// Returns the steps done. Throws UsageError, on all ranks, for a line that is
// no number of steps. The learning rate stays at its peak.
std::int64_t serve_paced_ddp(ProcessGroup& group,
                             const intro::TokenCorpus& corpus,
                             const TrainOptions& options, std::istream& in,
                             std::ostream& out);

}  // namespace dai::ddp
