// SPDX-License-Identifier: Apache-2.0
#include "common/launch/failure.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <signal.h>
#include <string.h>

#include <nlohmann/json.hpp>

#include "common/errors.h"

namespace dai::launch {

int contract_code(int exit_code) {
  switch (exit_code) {
    case kExitOk:
    case kExitUsage:
    case kExitUnavailable:
      return exit_code;
    default:
      return kExitFailed;
  }
}

int worse_code(int a, int b) {
  for (const int code : {kExitFailed, kExitUsage, kExitUnavailable}) {
    if (contract_code(a) == code || contract_code(b) == code) return code;
  }
  return kExitOk;
}

std::string signal_name(int signal) {
  const char* name = sigabbrev_np(signal);  // null for real-time signals
  return name != nullptr ? fmt::format("SIG{}", name)
                         : fmt::format("signal {}", signal);
}

int Failure::code() const {
  return signal != 0 ? static_cast<int>(kExitFailed) : contract_code(exit_code);
}

bool Failure::is_refusal() const {
  return code() == kExitUsage || code() == kExitUnavailable;
}

std::string Failure::describe() const {
  if (is_refusal()) {
    return fmt::format(
        "rank {} exited with {} ({})", rank, exit_code,
        code() == kExitUsage ? "wrong usage" : "cannot run here");
  }
  const std::string how = signal != 0
                              ? fmt::format("was killed by signal {} ({})",
                                            signal, signal_name(signal))
                              : fmt::format("exited with code {}", exit_code);
  const std::string where = collective.empty() ? "" : " " + collective;
  const std::string meanwhile =
      stopped.empty()
          ? ""
          : fmt::format("; stopped by a signal at that time: rank {}",
                        fmt::join(stopped, ", "));
  return fmt::format("rank {} (host {}, pid {}) {} after {:.1f} s{}{}", rank,
                     host, pid, how, seconds, where, meanwhile);
}

void to_json(nlohmann::json& json, const Failure& f) {
  json = {{"rank", f.rank},
          {"host", f.host},
          {"pid", f.pid},
          {"exit_code", f.exit_code},
          {"signal", f.signal},
          {"seconds", f.seconds},
          {"collective", f.collective},
          {"stopped", f.stopped},
          {"tail", f.tail}};
}

void from_json(const nlohmann::json& json, Failure& f) {
  json.at("rank").get_to(f.rank);
  json.at("host").get_to(f.host);
  json.at("pid").get_to(f.pid);
  json.at("exit_code").get_to(f.exit_code);
  json.at("signal").get_to(f.signal);
  json.at("seconds").get_to(f.seconds);
  json.at("collective").get_to(f.collective);
  json.at("stopped").get_to(f.stopped);
  json.at("tail").get_to(f.tail);
}

}  // namespace dai::launch
