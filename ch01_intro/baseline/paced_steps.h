// SPDX-License-Identifier: Apache-2.0
#pragma once

// Training steps on demand, so that a bench can run two programs in turns on
// the same cores: while one works the other waits for its next line. The first
// line on `out` says which decoder; then, for each line on `in`, a number of
// steps, one line as peers/train_peer.py prints it:
//
//   {"decoder": {"vocab_size": 16384, "hidden": 192, ...}}
//   {"step_ms": [231.4, ...], "loss": 6.2, "peak_rss_bytes": 812646400}
//
// Throws UsageError for a line that is no positive number.

#include <c10/core/Device.h>

#include <iosfwd>
#include <string>

#include "ch01_intro/baseline/baseline.h"

namespace dai::intro {

// Until `in` ends. Returns the steps trained. The learning rate is the
// schedule's peak throughout.
std::int64_t serve_paced_steps(const Decoder& decoder,
                               const TokenCorpus& corpus,
                               const BaselineOptions& options,
                               at::Device device, std::istream& in,
                               std::ostream& out);

// What the first steps of the schedule will train on, in their order, so that
// the peer can train on the same: raw int32, [steps x microbatches x samples,
// window + 1]. Throws UsageError where the file cannot be written.
void write_windows(const TokenCorpus& corpus, const BaselineOptions& options,
                   const std::string& path);

// The most memory this process ever held (getrusage's ru_maxrss), in bytes.
std::int64_t peak_rss_bytes();

}  // namespace dai::intro
