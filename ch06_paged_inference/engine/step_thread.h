// SPDX-License-Identifier: Apache-2.0
#pragma once

// One thread that runs one job at a time: a library with a pool of threads for
// each caller (OpenMP) meets the same caller at every step.
//
//   StepThread thread(/*asynchronous=*/true);
//   thread.start([&] { runner.run(plan, logits); });
//   thread.wait();      // rethrows what the job threw
//
// Not asynchronous: wait() runs the job, and there is no other thread.

#include <condition_variable>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <utility>

namespace dai::paged {

class StepThread {
 public:
  explicit StepThread(bool asynchronous) {
    if (!asynchronous) return;
    thread_ = std::jthread([this](std::stop_token stop) { run(stop); });
  }

  void start(std::function<void()> job) {
    const std::lock_guard lock(mutex_);
    job_ = std::move(job);
    changed_.notify_all();
  }
  void wait() {
    if (!thread_.joinable()) return std::exchange(job_, nullptr)();
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return !job_; });
    if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
  }

 private:
  void run(const std::stop_token& stop) {
    std::unique_lock lock(mutex_);
    while (changed_.wait(lock, stop, [&] { return job_ != nullptr; })) {
      lock.unlock();
      std::exception_ptr failure;
      try {
        job_();
      } catch (...) {
        failure = std::current_exception();
      }
      lock.lock();
      failure_ = failure;
      job_ = nullptr;
      changed_.notify_all();
    }
  }

  std::mutex mutex_;
  std::condition_variable_any changed_;
  std::function<void()> job_;
  std::exception_ptr failure_;
  std::jthread thread_;  // the last member: it uses the others
};

}  // namespace dai::paged
