// SPDX-License-Identifier: Apache-2.0
#pragma once

// torch.nn.parallel.DistributedDataParallel for C++, on the same engine:
// c10d::Reducer and c10d::Logger of LibTorch. LibTorch ships both without the
// class around them (pytorch #53497).
//
//   DistributedDataParallel ddp(tensors_of(*model), group);
//   for (auto& batch : my_batches) {
//     at::Tensor out = ddp.forward([&] { return model->forward(batch.x); });
//     loss(out, batch.y).backward();   // .grad: the mean over the ranks
//     optimizer.step();
//   }
//
// Options have PyTorch's names and defaults. Beyond it: a model that differs
// between ranks is named before training (model_check.h), a parameter without
// gradient is named with the first module not reached (unreached.h) as soon as
// it is known, and a second backward over the same graph, whose gradients would
// silently stay on this rank, is refused.
//
// `model` is not owned and not called by this class: forward() calls what it is
// given. All of it by the rank's one owner thread.
// Errors: UsageError for a model that differs or has nothing to learn,
// std::logic_error for a wrong use of this class, std::runtime_error for
// unreached parameters; those of the process group pass through.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "ch03_ddp/reducer/model_check.h"

namespace c10d {
class CommHookInterface;
}

namespace dai::ddp {

class BucketExchange;

struct DdpOptions {
  // Unset: 25 MiB after a first bucket of 1 MiB. Set: the first one's too.
  std::optional<double> bucket_cap_mb = {};
  // Gradients live in the buckets: no second copy of them, no copy back.
  bool gradient_as_bucket_view = false;
  // Walks the graph before each backward and marks what it will not reach, so
  // that nobody waits for it.
  bool find_unused_parameters = false;
  // The graph never changes: unused parameters are found once, and parameters
  // may be used several times with recomputation.
  bool static_graph = false;
  // Rank 0's buffers to everybody before each forward.
  bool broadcast_buffers = true;

  void check() const;  // throws UsageError
};

struct JoinOptions {
  // The mean is over all ranks, or over those that still had data.
  bool divide_by_initial_world_size = true;
  // Ends all ranks with std::runtime_error once one has no more data.
  bool throw_on_early_termination = false;
};

class DistributedDataParallel {
 public:
  // Collective: compares the models, then broadcasts rank 0's parameters and
  // buffers. Keeps a reference to the group.
  DistributedDataParallel(ModelTensors model, ProcessGroup& group,
                          const DdpOptions& options = {});
  ~DistributedDataParallel();
  DistributedDataParallel(const DistributedDataParallel&) = delete;
  DistributedDataParallel& operator=(const DistributedDataParallel&) = delete;

  // Calls `compute`, which returns a tensor or a std::vector of them, and
  // passes on what it returned; backward from there is synchronised.
  template <class Compute>
  auto forward(Compute&& compute) {
    pre_forward();
    auto output = std::forward<Compute>(compute)();
    if constexpr (std::is_same_v<decltype(output), at::Tensor>) {
      return post_forward({std::move(output)}).front();
    } else {
      return post_forward(std::move(output));
    }
  }

  // While one is alive, gradients add up on this rank and stay there: all
  // forwards but the last one of an accumulation.
  class NoSync {
   public:
    explicit NoSync(DistributedDataParallel& ddp);
    ~NoSync();
    NoSync(const NoSync&) = delete;
    NoSync& operator=(const NoSync&) = delete;

   private:
    DistributedDataParallel& ddp_;
    const bool before_;
  };
  [[nodiscard]] NoSync no_sync() { return NoSync(*this); }

  // Ranks may have different numbers of batches: runs `loop`, this rank's
  // training loop, and then answers the collectives of those that still train
  // until nobody does. At the end all have the parameters of a rank that
  // trained longest. What `loop` throws passes through.
  template <class Loop>
  void join(Loop&& loop, const JoinOptions& options = {}) {
    begin_join(options);
    try {
      std::forward<Loop>(loop)();
      end_join();
    } catch (...) {
      leave_join();
      throw;
    }
  }

  // Instead of an all_reduce, before the first backward; once.
  void register_comm_hook(std::unique_ptr<c10d::CommHookInterface> hook);
  // Likewise; the sums of the exchange are divided by `divisor`.
  void use_exchange(std::unique_ptr<BucketExchange> exchange, double divisor);
  BucketExchange* exchange() const;

  // Throws std::runtime_error that names what the last synchronised backward
  // has not reached. The next forward does so too, as PyTorch's; by then other
  // ranks wait already.
  void check_reduced() const;

  // The two halves of forward(), for a GradientSync, whose training loop calls
  // the model by itself. `outputs`: what backward will start from; the result
  // stands in their place.
  void pre_forward();
  std::vector<at::Tensor> post_forward(std::vector<at::Tensor> outputs);
  void set_microbatch(std::int64_t id);

  // DDPLoggingData of c10d::Logger, as PyTorch's _get_ddp_logging_data():
  // bucket sizes, times of forward, backward, communication and their overlap
  // in nanoseconds. Times are of the first 10 steps, then of every 100th.
  std::vector<std::pair<std::string, std::string>> logging_data() const;
  std::string logging_table() const;
  // Bytes of each bucket, in the order in which they are sent.
  std::vector<std::int64_t> bucket_bytes() const;
  const std::vector<intro::NamedParameter>& parameters() const;  // that learn

 private:
  struct State;
  void begin_join(const JoinOptions& options);
  void end_join();
  void leave_join() noexcept;
  std::unique_ptr<State> state_;
};

}  // namespace dai::ddp
