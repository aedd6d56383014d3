// SPDX-License-Identifier: Apache-2.0
#pragma once

// The one thread of a process that calls MPI. It starts MPI, begins each
// operation by a non-blocking call in the order in which they were handed in,
// looks after all that are under way and finalises MPI when the process ends.
// So nothing is asked of MPI's thread support, no operation waits for another
// one's end, and each has its own time-out.
//
//   MpiEngine& engine = MpiEngine::running();
//   engine.submit({.start = [=](auto& requests) { ... MPI_Ibarrier ... },
//                  .finish = {}, .timeout = timeout, .work = work});
//   work->wait();
//
// While something is under way the thread polls, at first without a pause,
// then every 10 to 200 us: a rank that computes keeps its core.
//
// A time-out or an error of MPI ends that operation alone. A receive is then
// cancelled; nothing else can be taken back: its buffers live until the process
// ends, and MPI is then not finalised, since that could wait for a dead peer
// for ever.

#include <mpi.h>

#include <chrono>
#include <condition_variable>
#include <exception>
#include <functional>
#include <list>
#include <mutex>
#include <thread>
#include <vector>

#include "common/torch/c10d_compat.h"
#include "common/torch/future_work.h"

namespace dai {

struct MpiOperation {
  using Requests = std::vector<MPI_Request>;
  // Both on the MPI thread; both may throw. `start` begins one or more
  // requests, and keeps alive what they read and write, until `finish`.
  std::function<void(Requests&)> start;
  std::function<void(const MPI_Status& last)> finish;
  std::chrono::milliseconds timeout{0};
  c10::intrusive_ptr<FutureWork> work;
  bool receives = false;  // nothing else: it can be cancelled
};

class MpiEngine {
 public:
  // Starts it at the first call. Throws std::runtime_error when MPI does not
  // start, or was started by somebody else for one thread only.
  static MpiEngine& running();

  void submit(MpiOperation operation);
  // Runs `call` on the MPI thread and waits for it; for local calls. Throws
  // what it throws.
  void run(const std::function<void()>& call);

  int rank() const { return rank_; }  // in MPI_COMM_WORLD
  int size() const { return size_; }

  MpiEngine(const MpiEngine&) = delete;
  MpiEngine& operator=(const MpiEngine&) = delete;

 private:
  using Clock = std::chrono::steady_clock;
  struct Active {
    MpiOperation operation;
    MpiOperation::Requests requests;
    Clock::time_point deadline;
  };

  MpiEngine();
  void start_mpi();
  void loop();
  void begin(MpiOperation operation);
  bool advance();  // whether anything ended
  // Whether it is over, well or not.
  bool look_after(Active& active);
  bool cancelled(Active& active);
  void finalize_at_exit();

  int rank_ = 0, size_ = 1;
  bool owner_ = true;     // we started MPI, so we finalise it
  bool damaged_ = false;  // an operation never ended
  std::mutex mutex_;
  std::condition_variable wake_, stopped_;
  std::list<MpiOperation> submitted_;
  std::list<Active> active_, lost_;
  bool stopping_ = false, over_ = false;
  std::thread thread_;
};

}  // namespace dai
