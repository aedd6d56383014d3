// SPDX-License-Identifier: Apache-2.0
#pragma once

// c10d's collectives over MPI's non-blocking ones (MPI 3.1, chapter 5), on a
// communicator of its own. LibTorch's wheel has no MPI backend; PyTorch's own
// (ProcessGroupMPI) does one blocking operation at a time, this one all that
// are asked for. ObservedBackend, which stands around it, has checked shapes,
// devices and ranks already (tensor_checks.h).
//
// Tensors are dense. On CUDA the caller's stream is waited for first, and the
// MPI must be CUDA-aware. Reductions: mpi_types.h. Moving works for any dtype.
// Counts beyond an int are sent in several parts where the operation can be
// cut; for the others std::invalid_argument.
//
// In the order of calls, equal on all ranks, like any backend. An operation
// that does not end within the time-out throws "timed out: ..." from wait();
// the group is of no use afterwards, as with every other backend.

#include <mpi.h>

#include <memory>
#include <vector>

#include "common/torch/c10d_compat.h"
#include "common/torch/mpi/mpi_engine.h"
#include "common/torch/mpi_library.h"

namespace dai {

class MpiBackend : public ::c10d::Backend {
 public:
  // Collective over MPI_COMM_WORLD.
  MpiBackend(int rank, int size, const MpiOptions& options);
  ~MpiBackend() override;

  const std::string getBackendName() const override { return "mpi"; }
  void setTimeout(std::chrono::milliseconds timeout) override {
    options_.timeout = timeout;
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

 private:
  using Requests = MpiOperation::Requests;
  using Start = std::function<void(MPI_Comm, Requests&)>;
  using Finish = std::function<void()>;

  // Hands `start` to the MPI thread. `results` are what the future holds.
  WorkPtr issue(::c10d::OpType type, const Tensors& results,
                std::chrono::milliseconds timeout, Start start,
                Finish finish = {});
  WorkPtr reduce_all(::c10d::OpType type, const Tensors& tensors,
                     const ::c10d::ReduceOp& op,
                     std::chrono::milliseconds timeout);
  WorkPtr gather_all(::c10d::OpType type, const Tensors& outputs,
                     const Tensors& inputs, std::chrono::milliseconds timeout,
                     Finish finish = {});
  WorkPtr scatter_sums(::c10d::OpType type, const Tensors& outputs,
                       const Tensors& inputs, const ::c10d::ReduceOp& op,
                       std::chrono::milliseconds timeout);
  WorkPtr exchange(::c10d::OpType type, const at::Tensor& output,
                   const at::Tensor& input, const Splits& output_rows,
                   const Splits& input_rows, std::chrono::milliseconds timeout,
                   Finish finish = {});
  int count(std::int64_t elements) const;  // fits one call, or throws

  MpiOptions options_;
  MpiEngine& engine_;
  std::shared_ptr<MPI_Comm> comm_;  // set by the MPI thread
};

}  // namespace dai
