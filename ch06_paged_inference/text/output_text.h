// SPDX-License-Identifier: Apache-2.0
#pragma once

// An answer's text while it is generated, cut off at a stop string. Nothing is
// sent that might yet be taken back: neither half a character nor what could be
// the beginning of a stop string.
//
//   OutputText text(tokenizer, {"\n\n", "User:"});
//   send(text.push(id));
//   if (text.stopped()) ...        // at text.stopped_by()
//   send(text.finish());           // what was held back, if nothing stopped it
//
// Of several stop strings the one that begins first counts, of two that begin
// together the first listed. Special tokens have no text.

#include <cstdint>
#include <string>
#include <vector>

#include "ch01_intro/tokenizer/streaming_decoder.h"

namespace dai::paged {

class OutputText {
 public:
  // `tokenizer` outlives the object. `include_stop`: the stop string is sent.
  OutputText(const intro::Tokenizer& tokenizer, std::vector<std::string> stops,
             bool include_stop = false)
      : decoder_(tokenizer, /*skip_special_tokens=*/true),
        stops_(std::move(stops)),
        include_stop_(include_stop) {}

  // Until it `may_stop` the text goes through as it is.
  std::string push(std::int32_t token, bool may_stop = true) {
    return take(decoder_.push(token), may_stop);
  }
  std::string finish();
  bool stopped() const { return !stopped_by_.empty(); }
  const std::string& stopped_by() const { return stopped_by_; }

 private:
  std::string take(const std::string& text, bool may_stop);

  intro::StreamingDecoder decoder_;
  std::vector<std::string> stops_;
  bool include_stop_;
  std::string held_;  // may be the beginning of a stop string
  std::string stopped_by_;
};

}  // namespace dai::paged
