// SPDX-License-Identifier: Apache-2.0
#pragma once

// Chapter 2's collectives as a c10d::Backend: `--backend dai` in every app of
// this repository, and what c10d::Reducer then runs on. Operations are done in
// the order of calls by one thread, which owns the transport; send and recv by
// another (message_engine.h), so that they wait for no collective.
//
// Tensors are on the CPU and dense. Reductions: sum, avg, min, max and product
// of the types in dtype.h; std::invalid_argument for others. Moving works for
// any dtype.
//
// ObservedBackend, which stands around it, has checked shapes and ranks on this
// rank; that all ranks call the same is checked by the transport before data
// moves.

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "ch02_hardware/model/communicator.h"
#include "ch02_hardware/transport/message_engine.h"
#include "common/torch/c10d_compat.h"
#include "common/torch/future_work.h"

namespace dai::hardware {

class CollectiveBackend : public ::c10d::Backend {
 public:
  CollectiveBackend(int rank, int size, std::unique_ptr<Communicator> group,
                    std::unique_ptr<MessageEngine> messages);
  // After the operations that were asked for.
  ~CollectiveBackend() override;

  const std::string getBackendName() const override { return "dai"; }

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

 private:
  struct Job {
    std::function<void(Communicator&)> run;
    c10::intrusive_ptr<FutureWork> work;
  };

  // Hands `run` to the thread. `results` are what the future holds.
  WorkPtr issue(::c10d::OpType type, const Tensors& results,
                std::function<void(Communicator&)> run);
  WorkPtr reduce_all(::c10d::OpType type, const Tensors& tensors,
                     const ::c10d::ReduceOp& op);
  WorkPtr gather_all(::c10d::OpType type, const Tensors& outputs,
                     const Tensors& inputs, std::function<void()> finish = {});
  WorkPtr scatter_sums(::c10d::OpType type, const Tensors& outputs,
                       const Tensors& inputs, const ::c10d::ReduceOp& op);
  WorkPtr exchange(::c10d::OpType type, const at::Tensor& output,
                   const at::Tensor& input, const Splits& output_rows,
                   const Splits& input_rows, std::function<void()> finish = {});
  WorkPtr receive_from(int from, const Tensors& tensors, int tag,
                       ::c10d::OpType type);
  void work_loop();

  std::unique_ptr<Communicator> group_;
  std::unique_ptr<MessageEngine> messages_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Job> jobs_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace dai::hardware
