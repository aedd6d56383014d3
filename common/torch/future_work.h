// SPDX-License-Identifier: Apache-2.0
#pragma once

// The c10d::Work of a backend that does its work on a thread of its own: a
// future that holds the results, completed once, from that thread.
//
//   auto work = c10::make_intrusive<FutureWork>(rank, type, tensors);
//   ... on the other thread:  work->complete(nullptr);
//
// Includes c10d: for .cpp files and headers of backends only.

#include <exception>
#include <vector>

#include "common/torch/c10d_compat.h"

namespace dai {

class FutureWork : public ::c10d::Work {
 public:
  FutureWork(int rank, ::c10d::OpType type, std::vector<at::Tensor> results);

  c10::intrusive_ptr<c10::ivalue::Future> getFuture() override {
    return future_;
  }
  std::vector<at::Tensor> result() override { return results_; }
  int sourceRank() const override { return source_; }

  // First the future, then wait().
  void complete(std::exception_ptr error);
  // Of a receive from anybody; before complete().
  void set_source(int rank) { source_ = rank; }

 private:
  const std::vector<at::Tensor> results_;
  const c10::intrusive_ptr<c10::ivalue::Future> future_;
  int source_ = -1;
};

}  // namespace dai
