// SPDX-License-Identifier: Apache-2.0
#include "ch03_ddp/doctor/call_log.h"

#include <algorithm>
#include <ranges>

namespace dai::ddp {
namespace {

constexpr std::size_t kRemembered = 31;  // durations of a call
constexpr std::size_t kIdentities = 4096;
constexpr double kLeastPatienceS = 1, kPatience = 5;
// Of a call that was never made before: first steps are slow ones.
constexpr double kFirstPatienceS = 5;

bool same_call(const CollectiveEvent& a, const CollectiveEvent& b) {
  return a.sequence == b.sequence && a.is_message() == b.is_message();
}

bool open(const Call& call) {
  return call.state == CallState::kInFlight ||
         call.state == CallState::kRefused;
}

}  // namespace

Call* CallLog::find(const CollectiveEvent& event) {
  for (Call& call : std::views::reverse(calls_)) {
    if (same_call(call.event, event)) return &call;
  }
  return nullptr;
}

void CallLog::begin(const Call& call) {
  std::lock_guard lock(mutex_);
  calls_.push_back(call);
  if (calls_.size() > capacity_) {
    // The oldest that is not in flight, or the oldest of all.
    const auto ended = std::ranges::find_if_not(calls_, open);
    calls_.erase(ended == calls_.end() ? calls_.begin() : ended);
  }
  if (!call.event.is_message()) issued_ = call.event.sequence;
  if (in_flight_++ == 0) busy_since_us_ = call.begun_us;
}

void CallLog::end(const CollectiveEvent& event, CallState state,
                  double now_us) {
  std::lock_guard lock(mutex_);
  Call* const call = find(event);
  if (call == nullptr || !open(*call)) return;
  if (call->state == CallState::kInFlight && --in_flight_ == 0) {
    waited_us_ += now_us - busy_since_us_;
  }
  // A refused call stays open: it is what this rank is held up by.
  if (call->state == CallState::kRefused) return;
  call->state = state;
  if (state == CallState::kRefused) return;
  call->ended_us = now_us;
  if (state != CallState::kDone) return;
  if (!event.is_message()) ++finished_;
  last_finished_ = *call;
  auto found = durations_.find(call->identity());
  if (found == durations_.end()) {
    if (durations_.size() >= kIdentities) return;
    found = durations_.emplace(call->identity(), std::deque<double>{}).first;
  }
  found->second.push_back(call->seconds(now_us));
  if (found->second.size() > kRemembered) found->second.pop_front();
}

std::vector<Call> CallLog::last(std::size_t count) const {
  std::lock_guard lock(mutex_);
  const std::size_t skipped = calls_.size() - std::min(count, calls_.size());
  return {calls_.begin() + static_cast<std::ptrdiff_t>(skipped), calls_.end()};
}

std::optional<Call> CallLog::last_finished() const {
  std::lock_guard lock(mutex_);
  return last_finished_;
}

std::optional<Call> CallLog::current() const {
  std::lock_guard lock(mutex_);
  const Call* message = nullptr;
  for (const Call& call : calls_) {
    if (!open(call)) continue;
    if (!call.event.is_message()) return call;
    if (message == nullptr) message = &call;
  }
  return message ? std::optional(*message) : std::nullopt;
}

std::uint64_t CallLog::issued() const {
  std::lock_guard lock(mutex_);
  return issued_;
}

std::uint64_t CallLog::finished() const {
  std::lock_guard lock(mutex_);
  return finished_;
}

double CallLog::patience_s(const Call& call) const {
  std::lock_guard lock(mutex_);
  const auto found = durations_.find(call.identity());
  if (found == durations_.end()) return kFirstPatienceS;
  std::vector<double> seconds(found->second.begin(), found->second.end());
  const auto middle = seconds.begin() + std::ssize(seconds) / 2;
  std::ranges::nth_element(seconds, middle);
  return std::max(kLeastPatienceS, kPatience * *middle);
}

double CallLog::take_waited_ms(double now_us) {
  std::lock_guard lock(mutex_);
  if (in_flight_ > 0) {
    waited_us_ += now_us - busy_since_us_;
    busy_since_us_ = now_us;
  }
  const double waited_ms = waited_us_ / 1e3;
  waited_us_ = 0;
  return waited_ms;
}

}  // namespace dai::ddp
