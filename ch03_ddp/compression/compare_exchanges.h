// SPDX-License-Identifier: Apache-2.0
#pragma once

// The same training with each of the exchanges, in turns: how many bytes it
// sends, as the formula says (wire_formula.h), as collectives are handed them
// and as the kernel's TCP counts them; and what it costs in loss, on text that
// was held back.
//
//   const ExchangeTable table = compare_exchanges(group, corpus, options);
//   table.rows[0]     // all_reduce, which the others are compared with
//
// All trainings are overlapped_ddp.h's. Collective.

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "ch01_intro/corpus/token_corpus.h"
#include "ch03_ddp/compare/compared_training.h"
#include "ch03_ddp/compression/wire_formula.h"
#include "ch03_ddp/ladder/make_sync.h"

namespace dai::ddp {

struct CompareExchangesOptions {
  ComparedSizes training;
  std::vector<std::string> exchanges = {};  // the first is compared with
  SyncOptions sync;                         // all but its exchange
  std::int64_t validation_windows = 240;

  void check(int ranks) const;  // throws UsageError
};

struct ExchangeRow {
  std::string name;
  std::vector<double> losses;  // [steps]
  StepMedians medians;
  // Of the last step, the mean of all ranks:
  WireCost formula;
  double handed_bytes = 0;
  double tcp_bytes = 0;  // 0: nothing went over TCP
  double validation_loss = 0;
  std::int64_t bits_off_rank0 = 0;  // the most of any rank
};

struct ExchangeTable {
  int ranks = 1;
  double all_reduce_bytes = 0;  // what a rank would send of plain gradients
  // Gradients of the model that canonical ever held at once, beside .grad.
  std::size_t canonical_held = 0;
  std::vector<ExchangeRow> rows = {};

  double gap(const ExchangeRow& row) const {  // nats a token
    return row.validation_loss - rows.front().validation_loss;
  }
  std::string to_string() const;
  std::vector<std::pair<std::string, double>> metrics() const;
  nlohmann::ordered_json curves() const;  // for scripts/plot
};

ExchangeTable compare_exchanges(ProcessGroup& group,
                                const intro::TokenCorpus& corpus,
                                const CompareExchangesOptions& options);

}  // namespace dai::ddp
