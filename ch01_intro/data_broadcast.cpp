// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/data_broadcast.h"

#include <ATen/ops/from_blob.h>
#include <ATen/ops/full.h>

#include "common/torch/process_group.h"

namespace dai::intro {
namespace {

void broadcast_bytes(std::vector<std::uint8_t>& bytes, ProcessGroup& group) {
  at::Tensor host = at::from_blob(
      bytes.data(), {static_cast<std::int64_t>(bytes.size())}, at::kByte);
  at::Tensor sent = host.to(group.device());  // on CPU the same memory
  group.broadcast(sent, /*root=*/0);
  if (!sent.is_same(host)) host.copy_(sent);
}

}  // namespace

void broadcast_from_rank0(FashionMnist& data, ProcessGroup& group) {
  at::Tensor count = at::full(
      {1}, data.count, at::TensorOptions(group.device()).dtype(at::kLong));
  group.broadcast(count, /*root=*/0);
  data.count = count.item<std::int64_t>();
  data.images.resize(data.count * kImagePixels);
  data.labels.resize(data.count);
  broadcast_bytes(data.images, group);
  broadcast_bytes(data.labels, group);
}

}  // namespace dai::intro
