// SPDX-License-Identifier: Apache-2.0
#include "common/torch/mpi/mpi_engine.h"

#include <ATen/core/jit_type.h>
#include <fmt/format.h>

#include <cstdio>
#include <cstdlib>
#include <future>
#include <stdexcept>
#include <utility>

#include "common/torch/mpi/mpi_types.h"

namespace dai {
namespace {

using std::chrono::microseconds;

constexpr int kEagerLooks = 200;  // then the thread begins to pause
constexpr microseconds kPause{10}, kMostPause{200};
constexpr std::chrono::seconds kFinalizeLimit{20};

}  // namespace

// Never destroyed: atexit() ends its thread, and what hangs must not be joined.
MpiEngine& MpiEngine::running() {
  static MpiEngine* const engine = [] {
    auto* made = new MpiEngine;
    static MpiEngine* const at_exit = made;
    std::atexit([] { at_exit->finalize_at_exit(); });
    return made;
  }();
  return *engine;
}

MpiEngine::MpiEngine() {
  std::promise<void> started;
  auto start = started.get_future();
  thread_ = std::thread([this, &started] {
    try {
      start_mpi();
    } catch (...) {
      started.set_exception(std::current_exception());
      return;
    }
    started.set_value();
    loop();
  });
  try {
    start.get();
  } catch (...) {
    thread_.join();
    throw;
  }
}

void MpiEngine::start_mpi() {
  int initialized = 0, finalized = 0;
  MPI_Initialized(&initialized);
  MPI_Finalized(&finalized);
  if (finalized) throw std::runtime_error("MPI was finalised already");
  owner_ = !initialized;
  int provided = MPI_THREAD_SINGLE;
  if (owner_) {
    mpi_check(
        MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided));
  } else {
    MPI_Query_thread(&provided);
    if (provided < MPI_THREAD_MULTIPLE) {
      throw std::runtime_error(
          "this program started MPI for fewer threads than "
          "MPI_THREAD_MULTIPLE");
    }
  }
  mpi_check(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN));
  mpi_check(MPI_Comm_rank(MPI_COMM_WORLD, &rank_));
  mpi_check(MPI_Comm_size(MPI_COMM_WORLD, &size_));
}

void MpiEngine::submit(MpiOperation operation) {
  {
    std::lock_guard lock(mutex_);
    if (!over_) {
      submitted_.push_back(std::move(operation));
      wake_.notify_one();
      return;
    }
  }
  operation.work->complete(std::make_exception_ptr(
      std::runtime_error("MPI is over: the process is ending")));
}

void MpiEngine::run(const std::function<void()>& call) {
  auto work = c10::make_intrusive<FutureWork>(rank_, ::c10d::OpType::UNKNOWN,
                                              std::vector<at::Tensor>{});
  submit({.start = [&](MpiOperation::Requests&) { call(); },
          .finish = {},
          .timeout = std::chrono::hours(1),
          .work = work});
  work->wait();
}

void MpiEngine::loop() {
  int looks = 0;
  for (;;) {
    std::list<MpiOperation> news;
    {
      std::unique_lock lock(mutex_);
      const auto called = [&] { return !submitted_.empty() || stopping_; };
      if (active_.empty()) {
        wake_.wait(lock, called);
      } else if (looks > kEagerLooks) {
        const auto pause = kPause * (looks - kEagerLooks);
        wake_.wait_for(lock, std::min<microseconds>(pause, kMostPause), called);
      }
      news.swap(submitted_);
      if (stopping_ && news.empty() && active_.empty()) break;
    }
    for (MpiOperation& operation : news) begin(std::move(operation));
    looks = news.empty() && !advance() ? looks + 1 : 0;
  }
  if (owner_ && !damaged_) MPI_Finalize();
  std::lock_guard lock(mutex_);
  over_ = true;
  stopped_.notify_all();
}

void MpiEngine::begin(MpiOperation operation) {
  Active active{std::move(operation), {}, {}};
  active.deadline = Clock::now() + active.operation.timeout;
  try {
    active.operation.start(active.requests);
  } catch (...) {
    damaged_ = damaged_ || !active.requests.empty();
    active.operation.work->complete(std::current_exception());
    if (!active.requests.empty()) lost_.push_back(std::move(active));
    return;
  }
  active_.push_back(std::move(active));
}

bool MpiEngine::advance() {
  bool any = false;
  for (auto it = active_.begin(); it != active_.end();) {
    const bool over = look_after(*it);
    any = any || over;
    it = over ? active_.erase(it) : std::next(it);
  }
  return any;
}

bool MpiEngine::look_after(Active& active) {
  MpiOperation& operation = active.operation;
  std::exception_ptr error;
  try {
    int done = 1;
    std::vector<MPI_Status> statuses(active.requests.size());
    const int code =
        MPI_Testall(static_cast<int>(active.requests.size()),
                    active.requests.data(), &done, statuses.data());
    if (code == MPI_ERR_IN_STATUS) {
      for (const MPI_Status& status : statuses) {
        if (status.MPI_ERROR != MPI_ERR_PENDING) mpi_check(status.MPI_ERROR);
      }
    }
    mpi_check(code);
    if (done) {
      if (operation.finish) {
        operation.finish(statuses.empty() ? MPI_Status{} : statuses.back());
      }
      operation.work->complete(nullptr);
      return true;
    }
    if (Clock::now() < active.deadline) return false;
    error = std::make_exception_ptr(std::runtime_error(
        fmt::format("timed out: MPI saw no end of it in {} ms",
                    operation.timeout.count())));
  } catch (...) {
    error = std::current_exception();
  }
  const auto work = operation.work;
  if (!cancelled(active)) {
    damaged_ = true;
    lost_.push_back(std::move(active));  // MPI may still write there
  }
  work->complete(error);
  return true;
}

bool MpiEngine::cancelled(Active& active) {
  if (!active.operation.receives) return false;
  for (MPI_Request& request : active.requests) {
    if (request != MPI_REQUEST_NULL) MPI_Cancel(&request);
  }
  int done = 0;
  MPI_Testall(static_cast<int>(active.requests.size()), active.requests.data(),
              &done, MPI_STATUSES_IGNORE);
  return done;
}

void MpiEngine::finalize_at_exit() {
  {
    std::unique_lock lock(mutex_);
    stopping_ = true;
    wake_.notify_one();
    if (!stopped_.wait_for(lock, kFinalizeLimit, [&] { return over_; })) {
      std::fprintf(stderr,
                   "MPI did not end within %lld s: an operation is under "
                   "way, or a rank ended without MPI_Finalize\n",
                   static_cast<long long>(kFinalizeLimit.count()));
      std::fflush(nullptr);
      std::_Exit(1);
    }
  }
  thread_.join();
}

}  // namespace dai
