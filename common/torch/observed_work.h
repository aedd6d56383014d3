// SPDX-License-Identifier: Apache-2.0
#pragma once

// One collective on its way, and the c10d::Work that a caller holds for it.
// Used by ObservedBackend alone. Includes c10d: for .cpp files only.

#include <chrono>
#include <exception>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "common/collective_observer.h"
#include "common/torch/c10d_compat.h"

namespace dai {

// What all collectives of a group share; works may outlive the backend.
struct ObserverList {
  mutable std::mutex mutex;
  std::vector<std::shared_ptr<CollectiveObserver>> observers;
  std::string first_error;  // of any collective
};

// From begin() to the first end(): the backend's callback and the waiting
// caller both call it, who comes first reports it.
class Flight {
 public:
  Flight(CollectiveEvent event, std::shared_ptr<ObserverList> list,
         std::chrono::milliseconds timeout);
  void begin();
  // `raw` is null or the backend's exception. Returns it as one line of ours.
  std::exception_ptr end(std::exception_ptr raw);
  const CollectiveEvent& event() const { return event_; }

 private:
  const CollectiveEvent event_;
  const std::shared_ptr<ObserverList> list_;
  const std::chrono::milliseconds timeout_;
  // Those that see the begin see the end.
  std::vector<std::shared_ptr<CollectiveObserver>> observers_;
  std::mutex mutex_;
  bool ended_ = false;
  std::exception_ptr error_;
};

// Where a backend shows that an operation has ended.
enum class EndShows {
  kInFuture,        // completed by a thread of the backend
  kInFutureResult,  // NCCL: its future is complete once the kernel is enqueued
  kInWait,          // Gloo's messages and reduce_scatter have no future
};

// The backend's Work with our errors. It adds no waiting: the end is seen by
// a callback on the inner future, where the backend has one.
class ObservedWork : public ::c10d::Work {
 public:
  ObservedWork(c10::intrusive_ptr<::c10d::Work> inner,
               std::shared_ptr<Flight> flight, EndShows end);

  bool wait(std::chrono::milliseconds timeout) override;
  std::exception_ptr exception() const override;
  c10::intrusive_ptr<c10::ivalue::Future> getFuture() override {
    return future_ ? future_ : inner_->getFuture();
  }
  c10::intrusive_ptr<c10::ivalue::Future> getFutureResult() override {
    return inner_->getFutureResult();
  }
  bool isCompleted() override { return inner_->isCompleted(); }
  bool isSuccess() const override { return inner_->isSuccess(); }
  int sourceRank() const override { return inner_->sourceRank(); }
  std::vector<at::Tensor> result() override { return inner_->result(); }
  void synchronize() override { inner_->synchronize(); }
  void blockCurrentStream() override { inner_->blockCurrentStream(); }
  void abort() override { inner_->abort(); }
  float getDuration() const override { return inner_->getDuration(); }
  std::uint64_t getSequencenumber() const override {
    return inner_->getSequencenumber();
  }

 private:
  const c10::intrusive_ptr<::c10d::Work> inner_;
  const std::shared_ptr<Flight> flight_;
  bool ends_in_wait_ = false;
  c10::intrusive_ptr<c10::ivalue::Future> future_;
};

// Stands for a call that was not issued: fails where somebody waits for it.
class RefusedWork : public ::c10d::Work {
 public:
  RefusedWork(int rank, std::exception_ptr error);

  bool wait(std::chrono::milliseconds timeout) override;
  c10::intrusive_ptr<c10::ivalue::Future> getFuture() override {
    return future_;
  }
  bool isCompleted() override { return true; }
  bool isSuccess() const override { return false; }
  std::exception_ptr exception() const override { return error_; }
  void synchronize() override { std::rethrow_exception(error_); }
  std::vector<at::Tensor> result() override { return {}; }

 private:
  const std::exception_ptr error_;
  const c10::intrusive_ptr<c10::ivalue::Future> future_;
};

// The backend's exception in one line without source position and stack:
// "timed out after 60 s: is a rank stopped, ...? (original, shortened)".
std::string explain_backend_error(std::exception_ptr error,
                                  std::chrono::milliseconds timeout);

}  // namespace dai
