// SPDX-License-Identifier: Apache-2.0
#include "ch03_ddp/doctor/watch.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <exception>
#include <utility>

#include "ch03_ddp/doctor/watch_state.h"
#include "common/torch/process_group.h"

namespace dai::ddp {
namespace {

constexpr double kEndWithinS = 3;
constexpr std::size_t kChecksKept = 64;  // of weights, and of steps' data

std::int64_t now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

}  // namespace

class Watch::Observer : public CollectiveObserver {
 public:
  explicit Observer(std::shared_ptr<State> state) : state_(std::move(state)) {}

  void on_begin(const CollectiveEvent& event) override {
    Call call{.event = event, .begun_ns = now_ns(), .begun_us = steady_us()};
    {
      std::lock_guard lock(state_->mutex);
      call.step = state_->step;
    }
    state_->log.begin(call);
    if (event.is_message()) return;
    const bool agreed = agree(call);
    {
      std::lock_guard lock(state_->mutex);
      state_->handshake_us.add(steady_us() - call.begun_us);
    }
    if (agreed) return;
    state_->log.end(event, CallState::kRefused, steady_us());
    state_->wake.notify_all();
    throw CallRefused(
        "not issued, since another rank is in another call there: see the "
        "doctor's verdict");
  }

  bool agree(const Call& call) {
    try {
      return state_->handshake.agree(call.event.sequence, call.signature());
    } catch (const std::exception& error) {
      throw CallRefused(fmt::format(
          "not issued, since the store does not answer ({})", error.what()));
    }
  }

  void on_end(const CollectiveEvent& event, std::exception_ptr error) override {
    state_->log.end(event, error ? CallState::kFailed : CallState::kDone,
                    steady_us());
  }

 private:
  const std::shared_ptr<State> state_;
};

Watch::Watch(ProcessGroup& group, const LaunchContext& launch,
             const WatchOptions& options)
    : group_(group),
      state_(std::make_shared<State>(group, launch, options)),
      observer_(std::make_shared<Observer>(state_)),
      exceptions_at_birth_(std::uncaught_exceptions()) {
  State& state = *state_;
  std::vector<std::string> keys;
  for (int rank = 0; rank < state.size; ++rank) {
    keys.push_back(state.report_key(rank));
  }
  for (const std::string& key :
       {state.verdict_key, state.speed_key, state.model_key, state.end_key}) {
    if (launch.rank == 0) state.store->set(key, std::string());
    keys.push_back(key);
  }
  state.store->set(state.report_key(launch.rank), state.report().to_json());
  try {
    state.store->wait(keys);
  } catch (const std::exception&) {
    throw std::runtime_error(
        "the watch: not all ranks have one, or a rank is gone");
  }
  group.add_observer(observer_);
  state.ranks_thread = std::thread([state = state_] { state->watch_ranks(); });
  if (launch.rank != 0) {
    state.store_thread =
        std::thread([state = state_] { state->watch_store(); });
  }
}

Watch::~Watch() {
  end(std::uncaught_exceptions() > exceptions_at_birth_);
}

void Watch::close() {
  end(/*failing=*/false);
}

void Watch::end(bool failing) {
  if (ended_) return;
  ended_ = true;
  group_.remove_observer(observer_);
  State& state = *state_;
  bool stuck = false;
  {
    std::unique_lock lock(state.mutex);
    const auto most = std::chrono::duration<double>(kEndWithinS);
    state.closed = !failing;
    if (!failing) state.phase = "done";
    state.wake.notify_all();
    if (failing) {
      // Rank 0 takes the store with it.
      const bool last = state.launch.rank == 0;
      state.wake.wait_for(lock, most, [&] {
        return !state.verdict.empty() && (!last || state.all_have_heard);
      });
    } else {
      state.wake.wait_for(lock, most, [&] { return state.over; });
    }
    state.ending = true;
    const double since = state.store_busy_since_us;
    stuck = since != 0 && steady_us() - since > 1e6;
    state.wake.notify_all();
  }
  for (std::thread* thread : {&state.ranks_thread, &state.store_thread}) {
    if (!thread->joinable()) continue;
    // One that hangs in the store keeps its state alive; the process ends.
    if (stuck) {
      thread->detach();
    } else {
      thread->join();
    }
  }
  if (!stuck) state.record();
}

void Watch::begin_step(std::int64_t step) {
  const double now = steady_us();
  const double waited_ms = state_->log.take_waited_ms(now);
  std::lock_guard lock(state_->mutex);
  if (state_->step >= 0 && state_->step_since_us > 0) {
    state_->step_ms.add((now - state_->step_since_us) / 1e3);
    state_->waited_ms.add(waited_ms);
  }
  state_->step = step;
  state_->step_since_us = now;
}

void Watch::end_steps() {
  std::lock_guard lock(state_->mutex);
  state_->step = -1;
  state_->phase = "end";
  state_->phase_since_us = steady_us();
}

void Watch::enter(const char* phase) {
  std::lock_guard lock(state_->mutex);
  state_->phase = phase;
  state_->phase_since_us = steady_us();
}

void Watch::name_parameters(std::vector<std::string> names) {
  std::lock_guard lock(state_->mutex);
  state_->facts.parameters = std::move(names);
}

void Watch::tell(WeightsCheck check) {
  std::lock_guard lock(state_->mutex);
  std::vector<WeightsCheck>& checks = state_->facts.checks;
  checks.push_back(std::move(check));
  if (checks.size() <= kChecksKept) return;
  // What differs stays until it has been judged.
  const bool asked = state_->leaves_of == checks.front().step;
  checks.erase(checks.begin() + asked);
}

void Watch::tell_data(std::int64_t step, std::uint64_t fingerprint) {
  std::lock_guard lock(state_->mutex);
  std::vector<StepData>& data = state_->facts.data;
  if (data.empty() || data.back().step != step) data.push_back({step, {}});
  data.back().fingerprints.push_back(fingerprint);
  if (data.size() > kChecksKept) data.erase(data.begin());
}

void Watch::tell_loss(std::int64_t step) {
  std::lock_guard lock(state_->mutex);
  state_->facts.loss_seen = step;
}

void Watch::tell(NanFound nan) {
  std::lock_guard lock(state_->mutex);
  if (!state_->facts.nan) state_->facts.nan = std::move(nan);
}

void Watch::tell_failure(const std::string& what) {
  const bool in_call =
      std::ranges::any_of(state_->log.last(kCallsKept), [](const Call& call) {
        return call.state == CallState::kFailed ||
               call.state == CallState::kRefused;
      });
  std::lock_guard lock(state_->mutex);
  state_->failure = what;
  state_->failed_in_call = in_call;
  state_->wake.notify_all();
}

double Watch::handshake_us() const {
  std::lock_guard lock(state_->mutex);
  return state_->handshake_us.median();
}

std::vector<Call> Watch::calls() const {
  return state_->log.last(kCallsKept);
}

std::string Watch::verdict() const {
  std::lock_guard lock(state_->mutex);
  return state_->last_words;
}

std::string Watch::await_verdict(double seconds) {
  std::unique_lock lock(state_->mutex);
  state_->wake.wait_for(lock, std::chrono::duration<double>(seconds),
                        [&] { return !state_->verdict.empty(); });
  return state_->last_words;
}

}  // namespace dai::ddp
