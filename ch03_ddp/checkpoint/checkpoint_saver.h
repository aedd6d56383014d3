// SPDX-License-Identifier: Apache-2.0
#pragma once

// Saves a training while it goes on. Every rank writes its share of each tensor
// (a run of its elements, manifest.h), so that N ranks write N times as fast as
// one; the last one to be ready makes it a checkpoint:
//
//   save()   copies this rank's share, which is all that training waits for
//   thread   writes and syncs the file, and tells rank 0 through the store
//   rank 0   has heard from all: manifest, sync, rename, old ones removed
//
//   CheckpointSaver saver(group, CheckpointStore("run"), options);
//   saver.save(120, state.tensors(), state.metadata());
//   saver.wait();
//
// Memory, while a save is under way: a copy of the state over the number of
// ranks. A save that fails anywhere (disk full, a rank gone) is a warning of
// rank 0, counted; the last good checkpoint stays and the training goes on. One
// save at a time: the next waits for it. save() and wait() are collective.

#include <atomic>
#include <chrono>
#include <cstdint>
#include <future>
#include <string>
#include <vector>

#include "ch01_intro/named_parameter.h"
#include "ch03_ddp/checkpoint/checkpoint_store.h"
#include "common/manifest.h"

namespace dai {
class ProcessGroup;
}

namespace dai::ddp {

struct SaverOptions {
  KeepPolicy keep;
  bool asynchronous = true;
  std::chrono::seconds timeout{60};  // for the slowest rank's disk
};

class CheckpointSaver {
 public:
  // Collective. Removes what dead runs have left in the folder.
  CheckpointSaver(ProcessGroup& group, CheckpointStore store,
                  const SaverOptions& options);
  // Waits, unless an exception is on its way: then gives up what is under way.
  ~CheckpointSaver();

  // Returns the milliseconds that the caller was held up.
  double save(std::int64_t step,
              const std::vector<intro::NamedParameter>& tensors,
              Metadata metadata);
  void wait();

  // Steps that the newest checkpoint has, as far as this one knows; -1: none.
  std::int64_t last_step() const { return last_step_; }
  void set_last_step(std::int64_t step) { last_step_ = step; }
  std::int64_t saved() const { return saved_; }
  std::int64_t failed() const { return failed_; }

 private:
  struct Share;
  std::string write(const Share& share);   // on the thread; empty: it is there
  std::string finish(const Share& share);  // rank 0's part of it
  std::string tell(const std::string& key);  // waits for the key's value

  ProcessGroup& group_;
  const CheckpointStore store_;
  const SaverOptions options_;
  std::string token_;
  int exceptions_;
  std::int64_t saved_ = 0, failed_ = 0;
  std::int64_t step_ = 0;  // of what is under way
  std::int64_t last_step_ = -1;
  std::atomic<bool> given_up_ = false;
  std::future<std::string> under_way_;
};

}  // namespace dai::ddp
