// SPDX-License-Identifier: Apache-2.0
#pragma once

// A c10d::Backend around another one (Gloo, NCCL, MPI), which
//   - tells observers of each collective's begin and end (asynchronously:
//     nothing here waits),
//   - refuses tensors that do not fit (common/torch/tensor_checks.h),
//   - turns the backend's errors into one line that names the collective.
//
// Inside c10d::ProcessGroup it stands in the backend's place, so c10d::Reducer
// passes through it too. Includes c10d: for .cpp files only.

#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "common/torch/c10d_compat.h"
#include "common/torch/observed_work.h"
#include "common/torch/tensor_checks.h"

namespace dai {

class ObservedBackend : public ::c10d::Backend {
 public:
  ObservedBackend(c10::intrusive_ptr<::c10d::Backend> inner,
                  at::DeviceType device, std::string group,
                  std::chrono::milliseconds timeout);

  void add_observer(std::shared_ptr<CollectiveObserver> observer);
  void remove_observer(const std::shared_ptr<CollectiveObserver>& observer);
  // Where the collectives from here on are called from; empty: unknown.
  void set_where(std::string where) { where_ = std::move(where); }
  // The first error of any collective, or an empty string.
  std::string first_error() const;

  TensorChecks check(const char* op) const {
    return {op, rank_, size_, device_};
  }

  using Tensors = std::vector<at::Tensor>;
  using TensorLists = std::vector<Tensors>;
  using Splits = std::vector<std::int64_t>;
  using WorkPtr = c10::intrusive_ptr<::c10d::Work>;

  WorkPtr broadcast(Tensors&, const ::c10d::BroadcastOptions&) override;
  WorkPtr allreduce(Tensors&, const ::c10d::AllreduceOptions&) override;
  WorkPtr allreduce_coalesced(
      Tensors&, const ::c10d::AllreduceCoalescedOptions&) override;
  WorkPtr reduce(Tensors&, const ::c10d::ReduceOptions&) override;
  WorkPtr allgather(TensorLists& outputs, Tensors& inputs,
                    const ::c10d::AllgatherOptions&) override;
  WorkPtr _allgather_base(at::Tensor& output, at::Tensor& input,
                          const ::c10d::AllgatherOptions&) override;
  WorkPtr allgather_into_tensor_coalesced(
      Tensors& outputs, Tensors& inputs,
      const ::c10d::AllgatherOptions&) override;
  WorkPtr gather(TensorLists& outputs, Tensors& inputs,
                 const ::c10d::GatherOptions&) override;
  WorkPtr scatter(Tensors& outputs, TensorLists& inputs,
                  const ::c10d::ScatterOptions&) override;
  WorkPtr reduce_scatter(Tensors& outputs, TensorLists& inputs,
                         const ::c10d::ReduceScatterOptions&) override;
  WorkPtr _reduce_scatter_base(at::Tensor& output, at::Tensor& input,
                               const ::c10d::ReduceScatterOptions&) override;
  WorkPtr reduce_scatter_tensor_coalesced(
      Tensors& outputs, Tensors& inputs,
      const ::c10d::ReduceScatterOptions&) override;
  WorkPtr alltoall_base(at::Tensor& output, at::Tensor& input,
                        Splits& output_splits, Splits& input_splits,
                        const ::c10d::AllToAllOptions&) override;
  WorkPtr alltoall(Tensors& outputs, Tensors& inputs,
                   const ::c10d::AllToAllOptions&) override;
  WorkPtr send(Tensors&, int peer, int tag) override;
  WorkPtr recv(Tensors&, int peer, int tag) override;
  WorkPtr recvAnysource(Tensors&, int tag) override;
  WorkPtr barrier(const ::c10d::BarrierOptions&) override;

  // Passed through.
  const std::string getBackendName() const override {
    return inner_->getBackendName();
  }
  c10::intrusive_ptr<Options> getBackendOptions() override {
    return inner_->getBackendOptions();
  }
  void setTimeout(std::chrono::milliseconds timeout) override;
  void setSequenceNumberForGroup() override {
    inner_->setSequenceNumberForGroup();
  }
  std::uint64_t getSequenceNumberForGroup() override {
    return inner_->getSequenceNumberForGroup();
  }
  void setGroupUid(const std::string& uid) override {
    ::c10d::Backend::setGroupUid(uid);
    inner_->setGroupUid(uid);
  }
  void monitoredBarrier(const ::c10d::BarrierOptions& options,
                        bool all) override {
    inner_->monitoredBarrier(options, all);
  }
  void eagerConnectSingleDevice(at::Device device) override {
    inner_->eagerConnectSingleDevice(device);
  }
  void abort() override { inner_->abort(); }
  void shutdown() override { inner_->shutdown(); }

 private:
  CollectiveEvent event(const char* op, const Tensors& tensors,
                        const ::c10d::ReduceOp* reduce_op = nullptr,
                        std::int64_t root = -1);
  CollectiveEvent message(const char* op, const Tensors& tensors, int peer,
                          int tag);
  EndShows end_of(const CollectiveEvent& event) const;
  // Reports the begin, calls issue() and returns its Work in our wrapping.
  template <typename Issue>
  WorkPtr observe(CollectiveEvent event, Issue issue);

  const c10::intrusive_ptr<::c10d::Backend> inner_;
  const at::DeviceType device_;
  const std::string group_;
  std::chrono::milliseconds timeout_;
  std::string where_;
  std::atomic<std::uint64_t> collectives_{0};
  std::atomic<std::uint64_t> messages_{0};  // send and recv
  std::shared_ptr<ObserverList> list_ = std::make_shared<ObserverList>();
};

}  // namespace dai
