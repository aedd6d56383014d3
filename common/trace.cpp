// SPDX-License-Identifier: Apache-2.0
#include "common/trace.h"

#include <fmt/format.h>

#include <atomic>
#include <nlohmann/json.hpp>
#include <set>
#include <stdexcept>

#include "common/strict_json.h"

namespace dai {

using nlohmann::json;

namespace {

// Small numbers in order of first use: viewers print them, and the kernel's
// thread ids say nothing to a reader.
int this_thread_number() {
  static std::atomic<int> next{0};
  thread_local const int number = next++;
  return number;
}

json args_json(const TraceArgs& args) {
  json object = json::object();
  for (const auto& [key, value] : args) {
    json& member = object[key];
    std::visit([&](const auto& v) { member = v; }, value);
  }
  return object;
}

// One event a line: the file can be searched and cut with plain text tools.
std::string file_of(const std::vector<json>& events) {
  std::string text = "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n";
  for (std::size_t i = 0; i < events.size(); ++i) {
    text += events[i].dump(-1, ' ', false, json::error_handler_t::replace);
    text += i + 1 < events.size() ? ",\n" : "\n";
  }
  return text + "]}\n";
}

}  // namespace

Trace::Trace(int rank, std::string host)
    : rank_(rank), host_(std::move(host)) {}

void Trace::add(Event event) {
  const std::scoped_lock lock(mutex_);
  events_.push_back(std::move(event));
}

void Trace::complete(std::string name, std::string category, double begin_us,
                     double duration_us, TraceArgs args) {
  add({'X', this_thread_number(), begin_us, duration_us, std::move(name),
       std::move(category), std::move(args)});
}

void Trace::instant(std::string name, std::string category, TraceArgs args) {
  add({'i', this_thread_number(), steady_us(), 0, std::move(name),
       std::move(category), std::move(args)});
}

void Trace::counter(std::string name, TraceArgs values) {
  add({'C', this_thread_number(), steady_us(), 0, std::move(name), "counter",
       std::move(values)});
}

std::string Trace::to_json() const {
  std::vector<json> events;
  events.push_back(
      {{"ph", "M"},
       {"name", "process_name"},
       {"pid", rank_},
       {"args", {{"name", fmt::format("rank {} ({})", rank_, host_)}}}});
  events.push_back({{"ph", "M"},
                    {"name", "process_sort_index"},
                    {"pid", rank_},
                    {"args", {{"sort_index", rank_}}}});
  const std::scoped_lock lock(mutex_);
  for (const Event& event : events_) {
    json item = {{"ph", std::string(1, event.phase)},
                 {"name", event.name},
                 {"cat", event.category},
                 {"pid", rank_},
                 {"tid", event.thread},
                 {"ts", event.begin_us},
                 {"args", args_json(event.args)}};
    if (event.phase == 'X') item["dur"] = event.duration_us;
    if (event.phase == 'i') item["s"] = "t";  // an arrow on its thread's line
    events.push_back(std::move(item));
  }
  return file_of(events);
}

TraceSpan::TraceSpan(Trace* trace, std::string name, std::string category,
                     TraceArgs args)
    : trace_(trace) {
  if (trace_ == nullptr) return;
  name_ = std::move(name);
  category_ = std::move(category);
  args_ = std::move(args);
  begin_us_ = steady_us();
}

TraceSpan::~TraceSpan() {
  if (trace_ == nullptr) return;
  const double end_us = steady_us();
  trace_->complete(std::move(name_), std::move(category_), begin_us_,
                   end_us - begin_us_, std::move(args_));
}

std::string merge_traces(const std::vector<RankTrace>& traces) {
  std::vector<json> merged;
  std::set<int> ranks;
  for (const RankTrace& trace : traces) {
    if (!ranks.insert(trace.rank).second) {
      throw std::invalid_argument(
          fmt::format("two traces of rank {}", trace.rank));
    }
    const std::string where = fmt::format("trace of rank {}", trace.rank);
    json root = parse_strict_json(trace.json, where, 16);
    if (!root.is_object() || !root["traceEvents"].is_array()) {
      refuse(where, "no list \"traceEvents\"");
    }
    for (json& event : root["traceEvents"]) {
      if (!event.is_object()) refuse(where, "an event is no object");
      event["pid"] = trace.rank;
      // Names of tracks have no time; everything else moves.
      if (event.contains("ts")) {
        if (!event["ts"].is_number()) {
          refuse(where, "an event's time is no number");
        }
        event["ts"] = event["ts"].get<double>() + trace.clock_offset_us;
      }
      merged.push_back(std::move(event));
    }
  }
  return file_of(merged);
}

ClockOffset estimate_clock_offset(const std::vector<ClockSample>& samples) {
  const ClockSample* best = nullptr;
  const auto round_trip = [](const ClockSample& sample) {
    return sample.receive_us - sample.send_us;
  };
  for (const ClockSample& sample : samples) {
    if (!(round_trip(sample) >= 0)) {
      throw std::invalid_argument("clock sample received before it was sent");
    }
    if (best == nullptr || round_trip(sample) < round_trip(*best)) {
      best = &sample;
    }
  }
  if (best == nullptr) throw std::invalid_argument("no clock samples");
  const double half = round_trip(*best) / 2;
  return {best->remote_us - (best->send_us + half), half};
}

}  // namespace dai
