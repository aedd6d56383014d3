// SPDX-License-Identifier: Apache-2.0
#pragma once

// Sees every collective that a process group issues: those of our helpers and
// those that c10d::Reducer starts during backward, because the hook sits in
// the c10d::Backend itself. Uses: the launcher's failure line ("rank 2 was in
// all_reduce #17"), traces, chapter 3's doctor.
//
//   struct Printer : dai::CollectiveObserver {
//     void on_begin(const dai::CollectiveEvent& e) override {
//       fmt::print("{}\n", e.to_string());
//     }
//   };
//   group.add_observer(std::make_shared<Printer>());

#include <cstdint>
#include <exception>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "common/launch_context.h"

namespace dai {

struct CollectiveEvent {
  // Counts from 1 in this group. Collectives are counted apart from send/recv,
  // so that equal numbers on two ranks mean the same collective.
  std::uint64_t sequence = 0;
  std::string op;                   // "all_reduce", "broadcast", "send", ...
  std::string group;                // "world"
  int rank = 0;                     // of this process in the group
  std::string dtype;                // "float32"; empty for a barrier
  std::vector<std::int64_t> shape;  // of the first input tensor
  std::int64_t tensors = 0;         // how many tensors it carries
  std::int64_t bytes = 0;           // of all of them
  std::string reduce_op;            // "sum", or empty
  int root = -1;                    // of broadcast, reduce, gather, scatter
  int peer = -1;                    // of send and recv; -1: any
  int tag = 0;                      // of send and recv
  std::string where;  // "trainer.cpp:81" when a helper was called, or empty
  std::string
      subject;  // "bucket 2: 31 parameters, model.layers.3...", or empty

  bool is_message() const { return op == "send" || op == "recv"; }
  std::string label() const;      // "all_reduce #17"
  std::string to_string() const;  // "all_reduce #17 (float32[16384], sum)"
};

// Subject of the barrier with which a ProcessGroup ends.
inline const std::string kGroupEnds = "the group's end";

// Thrown by an observer: the collective is not issued.
class CallRefused : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Callbacks must be quick. on_begin comes from the thread that issues the
// collective, before it is issued; it may throw CallRefused, and nothing else:
// the collective is then not issued, and whoever waits for it gets that
// exception. on_end must not throw. It comes once, from
// the backend's thread, when the result is there (for CUDA: when NCCL has
// finished on the device); for Gloo's send, recv and reduce_scatter, which
// end in wait(), from the waiting thread. `error` is null or what went wrong.
// Several collectives may overlap.
class CollectiveObserver {
 public:
  virtual ~CollectiveObserver() = default;
  virtual void on_begin(const CollectiveEvent&) {}
  virtual void on_end(const CollectiveEvent&, std::exception_ptr /*error*/) {}
};

// What the collectives that this thread issues in its lifetime carry, for
// messages: CollectiveEvent::subject. The text must outlive it.
class CallSubject {
 public:
  explicit CallSubject(const std::string& subject) : before_(current_) {
    current_ = &subject;
  }
  ~CallSubject() { current_ = before_; }
  CallSubject(const CallSubject&) = delete;
  CallSubject& operator=(const CallSubject&) = delete;
  static std::string current() { return current_ ? *current_ : std::string(); }

 private:
  const std::string* const before_;
  static thread_local const std::string* current_;
};

// Writes the rank's state to the launcher's status file (common/rank_status.h):
// "all_reduce #17 (float32[16384], sum)" while it is in one, then
// "after all_reduce #17". Null when no launcher asked for it.
std::shared_ptr<CollectiveObserver> make_rank_status_observer(
    const LaunchContext& launch);

}  // namespace dai
