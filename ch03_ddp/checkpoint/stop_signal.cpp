// SPDX-License-Identifier: Apache-2.0
#include "ch03_ddp/checkpoint/stop_signal.h"

#include <array>
#include <condition_variable>
#include <csignal>
#include <mutex>
#include <stdexcept>
#include <stop_token>

namespace dai::ddp {
namespace {

constexpr std::array kSignals{SIGTERM, SIGUSR1};

volatile std::sig_atomic_t the_signal = 0;
bool installed = false;
std::array<struct sigaction, kSignals.size()> before;

void note(int signal) {
  the_signal = signal;
}

// Sleeps, and is interrupted.
void listen(const std::stop_token& stop) {
  std::mutex mutex;
  std::condition_variable_any never;
  std::unique_lock lock(mutex);
  never.wait(lock, stop, [] { return false; });
}

}  // namespace

StopSignal::StopSignal() {
  if (installed) throw std::logic_error("two StopSignals at a time");
  installed = true;
  the_signal = 0;
  struct sigaction action{};
  action.sa_handler = note;
  action.sa_flags = SA_RESTART;  // calls that wait go on waiting
  for (std::size_t i = 0; i < kSignals.size(); ++i) {
    sigaction(kSignals[i], &action, &before[i]);
  }
  listener_ = std::jthread(listen);  // has this thread's mask, as it still is
  sigset_t blocked;
  sigemptyset(&blocked);
  for (const int signal : kSignals) sigaddset(&blocked, signal);
  pthread_sigmask(SIG_BLOCK, &blocked, &mask_before_);
}

StopSignal::~StopSignal() {
  // What is still on its way is noted, too, and kills nobody.
  pthread_sigmask(SIG_SETMASK, &mask_before_, nullptr);
  for (std::size_t i = 0; i < kSignals.size(); ++i) {
    sigaction(kSignals[i], &before[i], nullptr);
  }
  installed = false;
}

int StopSignal::received() const {
  return the_signal;
}

const char* StopSignal::name() const {
  if (the_signal == SIGTERM) return "SIGTERM";
  if (the_signal == SIGUSR1) return "SIGUSR1";
  return "another rank's signal";
}

}  // namespace dai::ddp
