// SPDX-License-Identifier: Apache-2.0
#pragma once

// The one place where a training loop learns that it is not alone. The loop
// calls these hooks around its own forward and backward; an implementation
// decides when gradients travel, how they are summed and where they are kept.
// naive_ddp.h is the first; the Reducer of chapter 3, FSDP of chapter 4 and
// ZeRO of chapter 5 implement the same five calls.
//
//   sync.begin_step();
//   for (const Microbatch& microbatch : mine) {
//     sync.before_forward(microbatch);
//     at::Tensor loss = model.loss(...);
//     sync.before_backward(microbatch, loss);
//     loss.backward();
//     sync.after_backward(microbatch);
//   }
//   SyncTimes times = sync.finish_step();
//
// Promise of finish_step(): the grad() of every parameter that this rank
// updates is the mean over all microbatches of all ranks. Plain data
// parallelism updates every parameter on every rank; a sharding implementation
// only its own shard. Until then a grad() may hold anything.
//
// Every rank calls the hooks in the same order, and at least one microbatch a
// step. Errors of the process group pass through.

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace dai::intro {

struct Microbatch {
  std::int64_t id = 0;  // in the global step: 0 .. microbatches - 1
  // After this one no local gradient will change any more in this step: an
  // overlapping implementation lets gradients travel during its backward.
  bool last_on_rank = false;
};

// What finish_step() kept the training loop waiting for, in milliseconds, as
// far as the implementation can tell it apart.
struct SyncTimes {
  double wait_ms = 0;  // for the slowest rank to arrive
  double wire_ms = 0;  // collectives, with the additions they do themselves
  double add_ms = 0;   // additions of our own
};

class GradientSync {
 public:
  virtual ~GradientSync() = default;

  // Forgets the gradients of the step before.
  virtual void begin_step() = 0;
  // Where sharded parameters are gathered for this microbatch.
  virtual void before_forward(const Microbatch&) {}
  // `loss` is the root of the graph that backward is about to walk.
  virtual void before_backward(const Microbatch&, const at::Tensor& /*loss*/) {}
  virtual void after_backward(const Microbatch&) {}
  virtual SyncTimes finish_step() = 0;
};

}  // namespace dai::intro
