// SPDX-License-Identifier: Apache-2.0
#pragma once

// A group of ranks that talk: the rendezvous, the backend (Gloo on CPU, NCCL on
// CUDA, or MPI) and an ending that never hangs.
//
//   dai::ProcessGroup group = dai::ProcessGroup::connect(
//       app.launch(), options.distributed, [&] { data = load(path); });
//   group.all_reduce(gradient, dai::ReduceOp::kAvg);  // in place, blocking
//   group.shutdown();  // or let it go out of scope
//
// connect() forms the store (rank 0 serves it), runs `preflight` on every rank,
// and lets all ranks agree before any collective: when one rank lacks its data
// or its GPU, every rank ends with the same kind of error and the cause.
//
// Ends: shutdown() meets the other ranks, then closes. When the scope is left
// by an exception, or a collective failed, nobody is waited for: the group is
// abandoned and request_fast_exit() (common/app.h) asked for, since threads of
// Gloo may hang on a dead peer until the time-out.
//
// With NCCL a dead peer shows at the time-out only, and PyTorch's watchdog then
// ends the process.
//
// One owner thread. Wire: TCPStore and Gloo/NCCL of LibTorch 2.11.

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>
#include <c10/util/intrusive_ptr.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <source_location>
#include <string>
#include <vector>

#include "common/collective_observer.h"
#include "common/launch_context.h"

namespace c10d {
class ProcessGroup;
class Store;
}  // namespace c10d

namespace dai {

class OptionSet;

struct DistributedOptions {
  std::string backend = "auto";  // gloo, nccl, mpi, dai; auto: nccl on cuda,
                                 // gloo on cpu
  std::string device = "auto";   // auto, cpu, cuda
  std::int64_t timeout_s = 60;   // of the rendezvous and of each collective
  std::string interface;         // "eth0"; empty: chosen, see description()
};

// Adds --backend --device --timeout-s --interface.
void add_distributed_options(OptionSet& set, DistributedOptions& options);

enum class ReduceOp { kSum, kAvg, kProduct, kMin, kMax };

class ProcessGroup {
 public:
  using Where = std::source_location;  // of the call, for messages

  // `fingerprint` says what must be equal on all ranks ("ch01 steps=100").
  // Throws UsageError, Unavailable or std::runtime_error; after `preflight`
  // threw on any rank, every rank throws that kind ("rank 2: needs ...").
  static ProcessGroup connect(const LaunchContext& launch,
                              const DistributedOptions& options = {},
                              const std::function<void()>& preflight = {},
                              const std::string& fingerprint = {});

  ProcessGroup(ProcessGroup&&) noexcept;
  ProcessGroup& operator=(ProcessGroup&&) = delete;
  // shutdown() when the scope ends well, and throws what it throws: a peer
  // that died at the end must not be missed.
  ~ProcessGroup() noexcept(false);

  // Waits for all ranks (a barrier, with the group's time-out), then closes.
  // Throws std::runtime_error when a peer is gone. Idempotent.
  void shutdown(Where where = Where::current());

  int rank() const;
  int size() const;
  at::Device device() const;                // where this group's tensors live
  const std::string& backend_name() const;  // "gloo", "nccl", "mpi", "dai"
  std::string description() const;  // "gloo via 127.0.0.1, 4 ranks, ..."

  // Fit for c10d::Reducer. Include common/torch/c10d_compat.h to use them.
  const c10::intrusive_ptr<::c10d::ProcessGroup>& c10d() const;
  const c10::intrusive_ptr<::c10d::Store>& store() const;

  // The end of the group is a barrier with the subject kGroupEnds. Observers
  // may be removed after it, too.
  void add_observer(std::shared_ptr<CollectiveObserver> observer);
  void remove_observer(const std::shared_ptr<CollectiveObserver>& observer);

  // Blocking collectives (on CUDA, as everywhere in PyTorch, it is the current
  // stream that waits). Tensors are contiguous, on device(), and have the same
  // shape and dtype on every rank. Errors: std::invalid_argument for a
  // tensor that does not fit (found before anything is sent), else
  // std::runtime_error of one line,
  //   all_reduce #17 (float32[16384], sum) on rank 1: peer closed the ...
  void all_reduce(at::Tensor tensor, ReduceOp op = ReduceOp::kSum,
                  Where where = Where::current());
  void broadcast(at::Tensor tensor, int root = 0,
                 Where where = Where::current());
  // [...] on each rank -> [size, ...] on all.
  at::Tensor all_gather(const at::Tensor& input,
                        Where where = Where::current());
  // [size * n, ...] -> [n, ...]: this rank's part of the sum.
  at::Tensor reduce_scatter(const at::Tensor& input,
                            ReduceOp op = ReduceOp::kSum,
                            Where where = Where::current());
  // [size * n, ...] -> [size * n, ...]: part r goes to rank r.
  at::Tensor all_to_all(const at::Tensor& input,
                        Where where = Where::current());
  void send(const at::Tensor& tensor, int to, int tag = 0,
            Where where = Where::current());
  void recv(at::Tensor tensor, int from, int tag = 0,
            Where where = Where::current());
  void barrier(Where where = Where::current());

  // The text of every rank, by rank, on all ranks. Goes through the store, not
  // the backend: for hosts, device names and traces, not for tensors.
  std::vector<std::string> gather_strings(const std::string& text);

 private:
  struct State;
  explicit ProcessGroup(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace dai
