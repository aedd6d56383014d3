// SPDX-License-Identifier: Apache-2.0
#include "common/torch/future_work.h"

namespace dai {

FutureWork::FutureWork(int rank, ::c10d::OpType type,
                       std::vector<at::Tensor> results)
    : Work(rank, type),
      results_(std::move(results)),
      future_(c10::make_intrusive<c10::ivalue::Future>(
          c10::ListType::create(c10::TensorType::get()))) {}

void FutureWork::complete(std::exception_ptr error) {
  if (error) {
    future_->setError(error);
  } else {
    future_->markCompleted(c10::IValue(results_));
  }
  finish(error);
}

}  // namespace dai
