// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/tokenizer/streaming_decoder.h"

#include <algorithm>
#include <utility>

#include "ch01_intro/corpus/utf8.h"

namespace dai::intro {
namespace {

constexpr std::string_view kReplacement = "\xef\xbf\xbd";

// Bytes of the longest beginning of a character that `text` begins with; 1
// where its first byte begins none.
std::size_t maximal_subpart(std::string_view text) {
  std::size_t longest = 1;
  for (std::size_t n = 1; n <= std::min<std::size_t>(text.size(), 3); ++n) {
    std::size_t cut = 0;
    well_formed_bytes(text.substr(0, n), &cut);
    if (cut == n) longest = n;
  }
  return longest;
}

}  // namespace

std::string Utf8Stream::push(std::string_view bytes) {
  std::string joined;
  if (!pending_.empty()) {
    joined = std::exchange(pending_, {}).append(bytes);
    bytes = joined;
  }
  std::string text;
  text.reserve(bytes.size());
  while (!bytes.empty()) {
    std::size_t cut = 0;
    std::size_t length = well_formed_bytes(bytes, &cut);
    if (length > 0) {
      text += bytes.substr(0, length);
    } else if (cut > 0) {  // the end of what is there so far
      pending_ = bytes;
      break;
    } else {
      text += kReplacement;
      length = maximal_subpart(bytes);
    }
    bytes.remove_prefix(length);
  }
  return text;
}

std::string Utf8Stream::finish() {
  const bool cut = !pending_.empty();
  pending_.clear();
  return std::string(cut ? kReplacement : "");
}

std::string replace_malformed(std::string_view bytes) {
  Utf8Stream stream;
  std::string text = stream.push(bytes);
  return text += stream.finish();
}

std::string StreamingDecoder::push(std::int32_t id) {
  const std::string_view piece = tokenizer_.piece(id);
  if (skip_special_tokens_ && tokenizer_.is_special(id)) return {};
  return stream_.push(piece);
}

}  // namespace dai::intro
