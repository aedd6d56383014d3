// SPDX-License-Identifier: Apache-2.0
#include "ch03_ddp/checkpoint/stop_signal.h"

#include <array>
#include <csignal>
#include <stdexcept>

namespace dai::ddp {
namespace {

constexpr std::array kSignals{SIGTERM, SIGUSR1};

volatile std::sig_atomic_t the_signal = 0;
bool installed = false;
std::array<struct sigaction, kSignals.size()> before;

void note(int signal) {
  the_signal = signal;
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
}

StopSignal::~StopSignal() {
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
