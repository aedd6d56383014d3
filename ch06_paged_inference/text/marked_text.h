// SPDX-License-Identifier: Apache-2.0
#pragma once

// Text that remembers, byte by byte, who wrote it: the template (a control
// token there is one) or a user (a control token there is nothing but text).
// Chat templates work on it as on a string, so a user's "<|im_end|>" stays the
// user's however it is trimmed, joined or repeated on its way.
//
//   MarkedText text("<|im_start|>", Author::kTemplate);
//   text += MarkedText(question, Author::kUser);

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>

#include "common/errors.h"

namespace dai::paged {

enum class Author : char { kTemplate, kUser };

class MarkedText {
 public:
  MarkedText() = default;
  MarkedText(std::string text, Author author)
      : text_(std::move(text)), authors_(text_.size(), char(author)) {}

  const std::string& text() const { return text_; }
  std::size_t size() const { return text_.size(); }
  Author author(std::size_t byte) const { return Author{authors_[byte]}; }

  // Throws UsageError beyond 64 MiB: no template writes that much in earnest.
  MarkedText& operator+=(const MarkedText& more) {
    if (size() + more.size() > std::size_t{64} << 20) {
      throw UsageError("a chat template's text is too long");
    }
    text_ += more.text_;
    authors_ += more.authors_;
    return *this;
  }
  MarkedText substr(std::size_t begin, std::size_t count) const {
    MarkedText part;
    part.text_ = text_.substr(begin, count);
    part.authors_ = authors_.substr(begin, count);
    return part;
  }
  // Each byte through `change`, its author as before.
  template <class Change>
  MarkedText each(Change change) const {
    MarkedText changed = *this;
    for (char& c : changed.text_) c = change(c);
    return changed;
  }

 private:
  std::string text_, authors_;  // of one length
};

}  // namespace dai::paged
