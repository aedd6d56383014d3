// SPDX-License-Identifier: Apache-2.0
#include "ch06_paged_inference/text/output_text.h"

#include <algorithm>
#include <utility>

namespace dai::paged {

std::string OutputText::take(const std::string& text, bool may_stop) {
  if (stopped()) return {};
  if (!may_stop) return text;
  held_ += text;
  std::size_t begin = std::string::npos;
  for (const std::string& stop : stops_) {
    const std::size_t found = held_.find(stop);
    if (found < begin) {
      begin = found;
      stopped_by_ = stop;
    }
  }
  std::size_t safe = held_.size();
  if (stopped()) {
    safe = begin + (include_stop_ ? stopped_by_.size() : 0);
  } else {
    for (const std::string& stop : stops_) {
      const std::size_t longest = std::min(stop.size() - 1, held_.size());
      for (std::size_t n = longest; n > 0; --n) {
        if (held_.ends_with(stop.substr(0, n))) {
          safe = std::min(safe, held_.size() - n);
          break;
        }
      }
    }
  }
  std::string sent = held_.substr(0, safe);
  held_.erase(0, safe);
  return sent;
}

std::string OutputText::finish() {
  std::string rest = take(decoder_.finish(), true);
  return stopped() ? rest : rest + std::exchange(held_, {});
}

}  // namespace dai::paged
