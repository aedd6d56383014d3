// SPDX-License-Identifier: Apache-2.0
#include "common/torch/observed_work.h"

#include <fmt/format.h>

#include <initializer_list>
#include <stdexcept>
#include <string_view>
#include <utility>

namespace dai {
namespace {

// The backend's own words, first line, without "[/pytorch/.../pair.cc:553]".
std::string short_text(std::exception_ptr error) {
  std::string text = "unknown exception";
  try {
    std::rethrow_exception(error);
  } catch (const c10::Error& e) {
    text = e.what_without_backtrace();
  } catch (const std::exception& e) {
    text = e.what();
  } catch (...) {
  }
  text = text.substr(0, text.find('\n'));
  if (text.starts_with('[')) {
    const auto end = text.find("] ");
    if (end != std::string::npos) text.erase(0, end + 2);
  }
  constexpr std::size_t kMost = 160;
  if (text.size() > kMost) text = text.substr(0, kMost) + "...";
  return text;
}

}  // namespace

std::string explain_backend_error(std::exception_ptr error,
                                  std::chrono::milliseconds timeout) {
  try {
    std::rethrow_exception(error);
  } catch (const CallRefused& refused) {
    return refused.what();
  } catch (...) {
  }
  const std::string text = short_text(error);
  const auto says = [&](std::initializer_list<std::string_view> parts) {
    for (const auto part : parts) {
      if (text.find(part) != std::string::npos) return true;
    }
    return false;
  };
  if (says({"imed out", "imeout"})) {
    return fmt::format(
        "timed out after {} s: is a rank stopped, dead or in another "
        "collective? ({})",
        std::chrono::duration<double>(timeout).count(), text);
  }
  if (says({"losed by peer", "reset by peer", "roken pipe", "refused"})) {
    return fmt::format("peer closed the connection: did a rank die? ({})",
                       text);
  }
  return text;
}

Flight::Flight(CollectiveEvent event, std::shared_ptr<ObserverList> list,
               std::chrono::milliseconds timeout)
    : event_(std::move(event)), list_(std::move(list)), timeout_(timeout) {}

void Flight::begin() {
  {
    std::lock_guard lock(list_->mutex);
    observers_ = list_->observers;
  }
  for (std::size_t k = 0; k < observers_.size(); ++k) {
    try {
      observers_[k]->on_begin(event_);
    } catch (const CallRefused&) {
      observers_.resize(k + 1);
      throw;
    }
  }
}

std::exception_ptr Flight::end(std::exception_ptr raw) {
  std::lock_guard lock(mutex_);
  if (ended_) return error_;
  ended_ = true;
  if (raw) {
    const std::string line =
        fmt::format("{} on rank {}: {}", event_.to_string(), event_.rank,
                    explain_backend_error(raw, timeout_));
    error_ = std::make_exception_ptr(std::runtime_error(line));
    std::lock_guard list_lock(list_->mutex);
    if (list_->first_error.empty()) list_->first_error = line;
  }
  for (const auto& observer : observers_) observer->on_end(event_, error_);
  return error_;
}

ObservedWork::ObservedWork(c10::intrusive_ptr<::c10d::Work> inner,
                           std::shared_ptr<Flight> flight, EndShows end)
    : Work(flight->event().rank, inner->retrieveOpType()),
      inner_(std::move(inner)),
      flight_(std::move(flight)) {
  if (end == EndShows::kInFutureResult) {
    // Complete when NCCL's watchdog has seen the kernel finish.
    inner_->getFutureResult()->addCallback(
        [flight = flight_](c10::ivalue::Future& result) {
          flight->end(result.hasError() ? result.exception_ptr() : nullptr);
        });
  } else if (end == EndShows::kInWait) {
    ends_in_wait_ = true;
  } else {
    const auto inner_future = inner_->getFuture();
    future_ = inner_future->then(
        [flight = flight_](c10::ivalue::Future& done) {
          const auto error =
              flight->end(done.hasError() ? done.exception_ptr() : nullptr);
          if (error) std::rethrow_exception(error);
          return done.value();
        },
        inner_future->elementType());
  }
}

bool ObservedWork::wait(std::chrono::milliseconds timeout) {
  bool done = false;
  try {
    done = inner_->wait(timeout);
  } catch (...) {
    std::rethrow_exception(flight_->end(std::current_exception()));
  }
  if (ends_in_wait_) flight_->end(nullptr);
  return done;
}

std::exception_ptr ObservedWork::exception() const {
  const auto error = inner_->exception();
  return error ? flight_->end(error) : nullptr;
}

RefusedWork::RefusedWork(int rank, std::exception_ptr error)
    : Work(rank),
      error_(std::move(error)),
      future_(c10::make_intrusive<c10::ivalue::Future>(
          c10::ListType::create(c10::TensorType::get()))) {
  future_->setError(error_);
}

bool RefusedWork::wait(std::chrono::milliseconds) {
  std::rethrow_exception(error_);
}

}  // namespace dai
