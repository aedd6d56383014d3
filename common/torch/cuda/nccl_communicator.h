// SPDX-License-Identifier: Apache-2.0
#pragma once

// A raw NCCL communicator that neither hangs nor leaks: formed through a c10d
// store, non-blocking, with a time-out, aborted after a failure. For code that
// calls NCCL itself (chapter 2's comparison of collectives); training goes
// through dai::ProcessGroup.
//
//   dai::NcclCommunicator comm(store, "ring", rank, size, device, 60s);
//   DAI_NCCL_CHECK(ncclAllReduce(in, out, n, ncclFloat, ncclSum, comm.get(),
//                                stream));
//   comm.synchronize(stream);
//
// Errors: std::runtime_error of one line. Spec: NCCL 2.28 user guide, "Fault
// tolerance" (non-blocking communicators).

#include <cuda_runtime_api.h>
#include <nccl.h>

#include <chrono>
#include <string>

namespace c10d {
class Store;
}  // namespace c10d

namespace dai {

class NcclCommunicator {
 public:
  // Collective. `name` is unique among the communicators of this store.
  NcclCommunicator(::c10d::Store& store, const std::string& name, int rank,
                   int size, int device, std::chrono::milliseconds timeout);
  ~NcclCommunicator();
  NcclCommunicator(const NcclCommunicator&) = delete;
  NcclCommunicator& operator=(const NcclCommunicator&) = delete;

  ncclComm_t get() const { return communicator_; }

  // Waits until the stream's work is done, watching for NCCL's asynchronous
  // errors, which cudaStreamSynchronize() would wait on for ever. After an
  // error or the time-out the communicator is aborted and unusable.
  void synchronize(cudaStream_t stream);

 private:
  void wait_ready(const char* what);
  void check_async(const char* what);
  [[noreturn]] void fail(const std::string& why);

  ncclComm_t communicator_ = nullptr;
  std::chrono::milliseconds timeout_;
  int rank_;
  bool failed_ = false;
};

}  // namespace dai
