// SPDX-License-Identifier: Apache-2.0
#pragma once

// Lists of tensors, as c10d hands them to a backend, as the one buffer that a
// collective wants, and back.
//
//   at::Tensor room = room_for_all(input, size);     // [size * numel]
//   copy_parts(room, outputs);

#include <ATen/core/Tensor.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>

#include <cstdint>
#include <vector>

namespace dai {

// [size * n]: a tensor of n elements for each rank, behind one another.
inline at::Tensor room_for_all(const at::Tensor& one, int size) {
  return at::empty({size * one.numel()}, one.options());
}

// All elements behind one another.
inline at::Tensor joined(const std::vector<at::Tensor>& parts) {
  std::vector<at::Tensor> flat;
  for (const at::Tensor& part : parts) flat.push_back(part.reshape({-1}));
  return at::cat(flat);
}

inline void copy_parts(const at::Tensor& all,
                       const std::vector<at::Tensor>& outputs) {
  std::int64_t first = 0;
  for (at::Tensor output : outputs) {
    output.copy_(all.narrow(0, first, output.numel()).view_as(output));
    first += output.numel();
  }
}

inline std::vector<std::int64_t> lengths(
    const std::vector<at::Tensor>& tensors) {
  std::vector<std::int64_t> all;
  for (const at::Tensor& tensor : tensors) all.push_back(tensor.numel());
  return all;
}

}  // namespace dai
