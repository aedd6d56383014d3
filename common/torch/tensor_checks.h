// SPDX-License-Identifier: Apache-2.0
#pragma once

// What a collective needs of its tensors, checked on the calling rank before
// anything is sent. c10d's backends check little: Gloo reads past the end of a
// reduce_scatter's input that does not divide, and a send to oneself follows a
// null pointer.
//
//   const TensorChecks check("reduce_scatter", rank, size, at::kCPU);
//   check.blocks(input, "input", output, "output");  // input = size x output
//
// All throw std::invalid_argument: "broadcast on rank 1: ...".

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

namespace dai {

class TensorChecks {
 public:
  TensorChecks(const char* op, int rank, int size, at::DeviceType device);

  // At least one; each defined, contiguous (or sparse), on the device.
  void tensors(const std::vector<at::Tensor>& tensors) const;
  // `whole` is as long as one `part` for each rank.
  void blocks(const at::Tensor& whole, const char* whole_name,
              const at::Tensor& part, const char* part_name) const;
  // The same for each pair of two lists.
  void pairs(const std::vector<at::Tensor>& wholes, const char* whole_name,
             const std::vector<at::Tensor>& parts, const char* part_name) const;
  // Each list holds one tensor a rank, like its single tensor.
  void lists(const std::vector<std::vector<at::Tensor>>& lists,
             const std::vector<at::Tensor>& single) const;
  // One block of rows a rank: equal ones when `splits` is empty.
  void splits(const at::Tensor& tensor, const char* name,
              const std::vector<std::int64_t>& splits) const;
  void root(std::int64_t rank) const;
  void peer(int rank) const;  // any rank but this one

 private:
  [[noreturn]] void refuse(const std::string& why) const;
  const char* op_;
  int rank_;
  int size_;
  at::DeviceType device_;
};

}  // namespace dai
