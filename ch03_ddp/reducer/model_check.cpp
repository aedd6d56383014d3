// SPDX-License-Identifier: Apache-2.0
#include "ch03_ddp/reducer/model_check.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <sstream>

#include "common/errors.h"
#include "common/torch/process_group.h"

namespace dai::ddp {
namespace {

// One line a tensor.
std::string describe(const ModelTensors& model) {
  std::string text;
  const auto add = [&](const char* kind, const auto& list) {
    for (std::size_t i = 0; i < list.size(); ++i) {
      const at::Tensor& tensor = list[i].tensor;
      text += fmt::format(
          "{} #{} is {} {}{}{}{}\n", kind, i, list[i].name,
          c10::toString(tensor.scalar_type()), tensor.sizes().vec(),
          tensor.is_contiguous()
              ? ""
              : fmt::format(" by strides {}", tensor.strides().vec()),
          kind[0] == 'p' && !tensor.requires_grad() ? ", frozen" : "");
    }
  };
  add("parameter", model.parameters);
  add("buffer", model.buffers);
  return text;
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

}  // namespace

void require_same_model(const ModelTensors& model, ProcessGroup& group) {
  const std::vector<std::string> texts = group.gather_strings(describe(model));
  const auto first = lines_of(texts[0]);
  for (std::size_t rank = 1; rank < texts.size(); ++rank) {
    if (texts[rank] == texts[0]) continue;
    const auto other = lines_of(texts[rank]);
    std::size_t at = 0;
    while (at < first.size() && at < other.size() && first[at] == other[at]) {
      ++at;
    }
    const auto line = [&](const std::vector<std::string>& lines) {
      return at < lines.size() ? lines[at] : "there is no more";
    };
    throw UsageError(
        fmt::format("rank {} has another model than rank 0: {}; on rank 0, {}",
                    rank, line(other), line(first)));
  }
}

}  // namespace dai::ddp
