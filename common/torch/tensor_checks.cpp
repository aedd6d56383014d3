// SPDX-License-Identifier: Apache-2.0
#include "common/torch/tensor_checks.h"

#include <c10/core/ScalarType.h>
#include <fmt/format.h>

#include <numeric>
#include <stdexcept>

namespace dai {
namespace {

std::string describe(const at::Tensor& tensor) {
  return fmt::format("{} elements of {}", tensor.numel(),
                     c10::getDtypeNames(tensor.scalar_type()).first);
}

}  // namespace

TensorChecks::TensorChecks(const char* op, int rank, int size,
                           at::DeviceType device)
    : op_(op), rank_(rank), size_(size), device_(device) {}

void TensorChecks::refuse(const std::string& why) const {
  throw std::invalid_argument(
      fmt::format("{} on rank {}: {}", op_, rank_, why));
}

void TensorChecks::tensors(const std::vector<at::Tensor>& tensors) const {
  if (tensors.empty()) refuse("no tensor given");
  for (const at::Tensor& tensor : tensors) {
    if (!tensor.defined()) refuse("undefined tensor");
    if (tensor.device().type() != device_) {
      refuse(fmt::format("the group works on {} tensors, this one is on {}",
                         c10::DeviceTypeName(device_, /*lower_case=*/true),
                         tensor.device().str()));
    }
    if (tensor.layout() == at::kStrided && !tensor.is_contiguous()) {
      refuse("tensor is not contiguous; pass tensor.contiguous()");
    }
  }
}

void TensorChecks::blocks(const at::Tensor& whole, const char* whole_name,
                          const at::Tensor& part, const char* part_name) const {
  tensors({whole, part});
  if (whole.numel() != part.numel() * size_ ||
      whole.scalar_type() != part.scalar_type()) {
    refuse(fmt::format("{} has {}, {} has {}: it must be {} times as long",
                       whole_name, describe(whole), part_name, describe(part),
                       size_));
  }
}

void TensorChecks::pairs(const std::vector<at::Tensor>& wholes,
                         const char* whole_name,
                         const std::vector<at::Tensor>& parts,
                         const char* part_name) const {
  tensors(wholes);
  if (wholes.size() != parts.size()) {
    refuse(fmt::format("{} {}s for {} {}s", wholes.size(), whole_name,
                       parts.size(), part_name));
  }
  for (std::size_t i = 0; i < wholes.size(); ++i) {
    blocks(wholes[i], whole_name, parts[i], part_name);
  }
}

void TensorChecks::lists(const std::vector<std::vector<at::Tensor>>& lists,
                         const std::vector<at::Tensor>& single) const {
  tensors(single);
  if (lists.size() != single.size()) {
    refuse(fmt::format("{} lists for {} tensors", lists.size(), single.size()));
  }
  for (std::size_t i = 0; i < lists.size(); ++i) {
    bool fits = lists[i].size() == static_cast<std::size_t>(size_);
    if (fits) tensors(lists[i]);
    for (const at::Tensor& one : lists[i]) {
      fits = fits && one.numel() == single[i].numel() &&
             one.scalar_type() == single[i].scalar_type();
    }
    if (!fits) {
      refuse(fmt::format("list {} must hold {} tensors of {}", i, size_,
                         describe(single[i])));
    }
  }
}

void TensorChecks::splits(const at::Tensor& tensor, const char* name,
                          const std::vector<std::int64_t>& splits) const {
  tensors({tensor});
  const std::int64_t rows = tensor.dim() == 0 ? 1 : tensor.size(0);
  if (splits.empty()) {
    if (rows % size_ != 0) {
      refuse(fmt::format("{} has {} rows, which do not divide by {} ranks",
                         name, rows, size_));
    }
    return;
  }
  const auto sum =
      std::accumulate(splits.begin(), splits.end(), std::int64_t{0});
  if (splits.size() != static_cast<std::size_t>(size_) || sum != rows) {
    refuse(fmt::format("{} has {} rows, its {} split sizes add up to {}", name,
                       rows, splits.size(), sum));
  }
}

void TensorChecks::root(std::int64_t rank) const {
  if (rank < 0 || rank >= size_) {
    refuse(fmt::format("root {} is not one of the {} ranks", rank, size_));
  }
}

void TensorChecks::peer(int rank) const {
  if (rank < 0 || rank >= size_ || rank == rank_) {
    refuse(
        fmt::format("peer {} is not another one of the {} ranks", rank, size_));
  }
}

}  // namespace dai
