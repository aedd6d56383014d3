// SPDX-License-Identifier: Apache-2.0
#pragma once

// How long a forward pass takes, by batch: the trade that inference and
// serving live from. A larger batch makes each token cheaper and each answer
// later.
//
//   for (const LatencyRow& row :
//        measure_forward_latency(decoder, corpus, {1, 2, 4, 8}, {}, device))
//     row.p99_ms;

#include <c10/core/Device.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "ch01_intro/corpus/token_corpus.h"
#include "ch01_intro/decoder/decoder.h"
#include "ch01_intro/trainer/autocast.h"

namespace dai::intro {

struct LatencyRow {
  std::int64_t batch = 0;
  std::int64_t samples = 0;
  double p50_ms = 0;
  double p99_ms = 0;        // of few samples: close to the slowest
  double tokens_per_s = 0;  // at the median
};

struct LatencyOptions {
  std::int64_t samples = 30;  // of a batch, after two that do not count
  Precision precision = Precision::kFp32;
};

// Forward to the logits without gradients, on validation windows of the
// corpus. The batches are measured in turns, so that a slow minute of the
// machine falls on all of them. Throws UsageError for no batch and for ones
// below 1.
std::vector<LatencyRow> measure_forward_latency(
    const Decoder& decoder, const TokenCorpus& corpus,
    const std::vector<std::int64_t>& batches, const LatencyOptions& options,
    at::Device device);

std::string latency_table(const std::vector<LatencyRow>& rows);
// "forward_batch8_p50_ms", ...
std::vector<std::pair<std::string, double>> latency_metrics(
    const std::vector<LatencyRow>& rows);

}  // namespace dai::intro
