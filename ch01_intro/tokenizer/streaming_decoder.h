// SPDX-License-Identifier: Apache-2.0
#pragma once

// Text while it is being generated. A token may end inside a character: its
// bytes are held back until the character is whole, so that a client never sees
// half of one.
//
//   StreamingDecoder decoder(tokenizer);
//   for (std::int32_t id : generated) send(decoder.push(id));
//   send(decoder.finish());
//
// What is no UTF-8 becomes U+FFFD exactly where Python's
// bytes.decode("utf-8", errors="replace") puts it: one for each maximal
// beginning of a character that does not go on, one for each byte that begins
// none (Unicode 16, section 3.9, "maximal subparts"). All that is sent,
// together, is replace_malformed() of all the bytes, however they were cut.

#include <cstdint>
#include <string>
#include <string_view>

#include "ch01_intro/tokenizer/tokenizer.h"

namespace dai::intro {

// The same for bytes instead of ids.
class Utf8Stream {
 public:
  // The text that is certain now; at most three bytes are held back.
  std::string push(std::string_view bytes);
  // What was held back, as U+FFFD; ready for another stream.
  std::string finish();

 private:
  std::string pending_;  // the beginning of a character
};

std::string replace_malformed(std::string_view bytes);

class StreamingDecoder {
 public:
  // `tokenizer` outlives the decoder.
  explicit StreamingDecoder(const Tokenizer& tokenizer,
                            bool skip_special_tokens = false)
      : tokenizer_(tokenizer), skip_special_tokens_(skip_special_tokens) {}

  std::string push(std::int32_t id);
  std::string finish() { return stream_.finish(); }

 private:
  const Tokenizer& tokenizer_;
  bool skip_special_tokens_;
  Utf8Stream stream_;
};

}  // namespace dai::intro
