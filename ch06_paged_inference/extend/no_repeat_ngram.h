// SPDX-License-Identifier: Apache-2.0
#pragma once

// An example of a logits processor of one's own: no n tokens in a row occur
// twice in an answer (Paulus et al., arXiv:1705.04304, section 2.5). Small
// models like to say the same again.
//
//   request.sampling.processors = {std::make_shared<NoRepeatNgram>(3)};
//
// Of the answer alone: a prompt may be quoted. Stateless, so one object serves
// any number of requests. Throws std::invalid_argument for n < 1.

#include <cstdint>

#include "ch06_paged_inference/engine/logits_processor.h"

namespace dai::paged {

class NoRepeatNgram : public LogitsProcessor {
 public:
  explicit NoRepeatNgram(std::int64_t n);
  void process(const Sequence& sequence, std::span<float> logits) override;

 private:
  std::int64_t n_;
};

}  // namespace dai::paged
