// SPDX-License-Identifier: Apache-2.0
#include "ch03_ddp/doctor/rank_report.h"

#include <fmt/format.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <stdexcept>

namespace dai::ddp {

const char* to_string(ProcessState state) {
  switch (state) {
    case ProcessState::kAlive:
      return "alive";
    case ProcessState::kStopped:
      return "stopped";
    case ProcessState::kDead:
      return "dead";
    case ProcessState::kSilent:
      return "silent";
  }
  return "unknown";
}

ProcessState look_at_process(std::int64_t pid) {
  std::ifstream proc("/proc/self/stat");
  if (!proc) return ProcessState::kSilent;
  std::ifstream file(fmt::format("/proc/{}/stat", pid));
  std::string line;
  if (!std::getline(file, line)) return ProcessState::kDead;
  // "pid (name) S ...", where the name may hold anything: proc_pid_stat(5).
  const auto end = line.rfind(')');
  if (end == std::string::npos || end + 2 >= line.size()) {
    return ProcessState::kSilent;
  }
  switch (line[end + 2]) {
    case 'T':
    case 't':
      return ProcessState::kStopped;
    case 'Z':
    case 'X':
      return ProcessState::kDead;
    default:
      return ProcessState::kAlive;
  }
}

std::string RankReport::to_json() const {
  nlohmann::ordered_json json = {{"rank", rank},
                                 {"host", host},
                                 {"pid", pid},
                                 {"beat", beat},
                                 {"step", step},
                                 {"phase", phase},
                                 {"phase_s", phase_s},
                                 {"failure", failure},
                                 {"failed_in_call", failed_in_call},
                                 {"closed", closed},
                                 {"heard", heard},
                                 {"over", over},
                                 {"issued", issued},
                                 {"finished", finished},
                                 {"waiting_s", waiting_s},
                                 {"patience_s", patience_s},
                                 {"step_ms", step_ms},
                                 {"waited_ms", waited_ms},
                                 {"steps_timed", steps_timed}};
  for (const auto& [other, state] : neighbours) {
    json["neighbours"].push_back({other, static_cast<int>(state)});
  }
  if (last_finished) json["last_finished"] = ddp::to_json(*last_finished);
  if (current) json["current"] = ddp::to_json(*current);
  if (!calls.empty()) {
    auto& list = json["calls"] = nlohmann::ordered_json::array();
    for (const Call& call : calls) list.push_back(ddp::to_json(call));
  }
  json["facts"] = ddp::to_json(facts, leaves_of);
  return json.dump(-1, ' ', false,
                   nlohmann::ordered_json::error_handler_t::replace);
}

RankReport rank_report_from_json(const std::string& text) {
  RankReport report;
  try {
    const auto json = nlohmann::ordered_json::parse(text);
    json.at("rank").get_to(report.rank);
    json.at("host").get_to(report.host);
    json.at("pid").get_to(report.pid);
    json.at("beat").get_to(report.beat);
    json.at("step").get_to(report.step);
    json.at("phase").get_to(report.phase);
    json.at("phase_s").get_to(report.phase_s);
    json.at("failure").get_to(report.failure);
    json.at("failed_in_call").get_to(report.failed_in_call);
    json.at("closed").get_to(report.closed);
    json.at("heard").get_to(report.heard);
    json.at("over").get_to(report.over);
    json.at("issued").get_to(report.issued);
    json.at("finished").get_to(report.finished);
    json.at("waiting_s").get_to(report.waiting_s);
    json.at("patience_s").get_to(report.patience_s);
    json.at("step_ms").get_to(report.step_ms);
    json.at("waited_ms").get_to(report.waited_ms);
    json.at("steps_timed").get_to(report.steps_timed);
    if (json.contains("neighbours")) {
      for (const auto& one : json["neighbours"]) {
        const int state = one.at(1).get<int>();
        if (state < 0 || state > static_cast<int>(ProcessState::kSilent)) {
          throw std::runtime_error("a process in an unknown state");
        }
        report.neighbours.emplace_back(one.at(0).get<int>(),
                                       static_cast<ProcessState>(state));
      }
    }
    if (json.contains("last_finished")) {
      report.last_finished = call_from_json(json["last_finished"]);
    }
    if (json.contains("current")) {
      report.current = call_from_json(json["current"]);
    }
    report.facts = model_facts_from_json(json.at("facts"));
    if (json.contains("calls")) {
      for (const auto& call : json["calls"]) {
        report.calls.push_back(call_from_json(call));
      }
    }
  } catch (const nlohmann::json::exception& error) {
    throw std::runtime_error(
        fmt::format("not a rank's report: {}", error.what()));
  }
  return report;
}

}  // namespace dai::ddp
