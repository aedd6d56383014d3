// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/profile/operator_profile.h"

#include <algorithm>
#include <cctype>
#include <map>
#include <stdexcept>
#include <unordered_map>
#include <utility>

#include "ch01_intro/profile/node_makers.h"

namespace dai::intro {
namespace {

using Kind = ProfiledEvent::Kind;

constexpr int kNone = -1;

// What sort_events() finds out about an event.
struct Place {
  int parent = kNone;
  std::int64_t self_ns = 0;
  bool in_step = false;
  bool backward = false;
  std::string module;
};

bool is_step(const ProfiledEvent& event) {
  return event.kind == Kind::kScope && event.name == kStepScope;
}

// Threads one after the other, on each of them parents before their children.
void order(std::vector<ProfiledEvent>& events) {
  std::stable_sort(events.begin(), events.end(),
                   [](const ProfiledEvent& a, const ProfiledEvent& b) {
                     if (a.thread != b.thread) return a.thread < b.thread;
                     if (a.begin_ns != b.begin_ns) {
                       return a.begin_ns < b.begin_ns;
                     }
                     return a.end_ns > b.end_ns;
                   });
}

// Parents and self times.
std::int64_t nest(std::vector<ProfiledEvent>& events,
                  std::vector<Place>& places) {
  std::int64_t escaped = 0;
  std::vector<int> open;
  for (int i = 0; i < static_cast<int>(events.size()); ++i) {
    ProfiledEvent& event = events[i];
    while (!open.empty() && (events[open.back()].thread != event.thread ||
                             events[open.back()].end_ns <= event.begin_ns)) {
      open.pop_back();
    }
    if (!open.empty()) {
      const int parent = open.back();
      places[i].parent = parent;
      if (event.end_ns > events[parent].end_ns) {
        ++escaped;
        event.end_ns = events[parent].end_ns;
      }
      places[parent].self_ns -= event.end_ns - event.begin_ns;
    }
    places[i].self_ns += event.end_ns - event.begin_ns;
    open.push_back(i);
  }
  return escaped;
}

// A step's thread is walked from its scope down; other threads count as far as
// they work while a step runs.
void mark_steps(const std::vector<ProfiledEvent>& events,
                std::vector<Place>& places) {
  std::vector<const ProfiledEvent*> steps;
  for (const ProfiledEvent& event : events) {
    if (is_step(event)) steps.push_back(&event);
  }
  if (steps.empty()) {
    throw std::invalid_argument("sort_events: no step was recorded");
  }
  for (std::size_t i = 0; i < events.size(); ++i) {
    const ProfiledEvent& event = events[i];
    if (places[i].parent != kNone) {
      places[i].in_step = places[places[i].parent].in_step;
    }
    if (is_step(event)) places[i].in_step = true;
    if (places[i].in_step || event.thread == steps[0]->thread) continue;
    places[i].in_step =
        std::any_of(steps.begin(), steps.end(), [&](const ProfiledEvent* step) {
          return step->begin_ns <= event.begin_ns &&
                 event.end_ns <= step->end_ns;
        });
  }
}

void inherit(const std::vector<ProfiledEvent>& events,
             std::vector<Place>& places, int i) {
  const int parent = places[i].parent;
  if (parent == kNone) return;
  places[i].module = places[parent].module;
  places[i].backward =
      places[parent].backward || events[i].kind == Kind::kBackwardNode;
}

void find_modules(const std::vector<ProfiledEvent>& events,
                  std::vector<Place>& places) {
  // Forward first: on a GPU backward has a thread of its own, which may stand
  // before the one that made the nodes.
  NodeMakers makers;
  const int count = static_cast<int>(events.size());
  for (int i = 0; i < count; ++i) {
    inherit(events, places, i);
    if (events[i].kind == Kind::kScope && !is_step(events[i])) {
      places[i].module = events[i].name;
    }
    makers.saw(events[i], places[i].module);
  }
  std::string last;  // module of the node before
  for (int i = 0; i < count; ++i) {
    inherit(events, places, i);
    if (events[i].kind == Kind::kScope && !is_step(events[i])) {
      places[i].module = events[i].name;
    }
    if (events[i].kind != Kind::kBackwardNode) continue;
    places[i].backward = true;
    // The engine writes a weight's gradient down right after the node that
    // computed it, and gives that no number.
    const bool writes_down =
        events[i].name.find("AccumulateGrad") != std::string::npos;
    last = places[i].module = writes_down ? last : makers.module_of(events[i]);
    const int parent = places[i].parent;
    if (parent != kNone && events[parent].name.starts_with(kEngine)) {
      places[parent].module = last;
      places[parent].backward = true;
    }
  }
}

OperatorGroup group_in_place(const ProfiledEvent& event, const Place& place) {
  if (event.kind == Kind::kScope) return OperatorGroup::kBetween;
  if (place.module == kOptimizerScope) return OperatorGroup::kOptimizer;
  return group_of(event.name);
}

void add_up(const std::vector<ProfiledEvent>& events,
            const std::vector<Place>& places, OperatorProfile& profile) {
  std::map<std::pair<std::string, OperatorGroup>, OperatorRow> operators;
  std::unordered_map<std::string, std::size_t> modules;
  for (int i = 0; i < kOperatorGroups; ++i) {
    profile.groups.push_back({static_cast<OperatorGroup>(i)});
  }
  std::uint64_t step_thread = 0;
  for (const ProfiledEvent& event : events) {
    if (is_step(event)) step_thread = event.thread;
  }
  for (std::size_t i = 0; i < events.size(); ++i) {
    const ProfiledEvent& event = events[i];
    const Place& place = places[i];
    if (!place.in_step) continue;
    if (is_step(event)) {
      ++profile.steps;
      profile.wall_ns += event.end_ns - event.begin_ns;
    }
    if (event.thread != step_thread) profile.other_threads_ns += place.self_ns;
    profile.flops += event.flops;

    const OperatorGroup group = group_in_place(event, place);
    GroupRow& in_group = profile.groups[static_cast<std::size_t>(group)];
    in_group.self_ns += place.self_ns;
    in_group.device_ns += event.device_ns;
    if (event.kind != Kind::kScope) {
      OperatorRow& row = operators[{event.name, group}];
      row.name = event.name;
      row.group = group;
      ++row.calls;
      row.self_ns += place.self_ns;
      row.total_ns += event.end_ns - event.begin_ns;
      row.device_ns += event.device_ns;
    }
    const auto [module, is_new] =
        modules.try_emplace(place.module, profile.modules.size());
    if (is_new) profile.modules.push_back({place.module});
    ModuleRow& row = profile.modules[module->second];
    (place.backward ? row.backward_ns : row.forward_ns) += place.self_ns;
    row.device_ns += event.device_ns;
  }
  for (auto& [key, row] : operators) {
    profile.operators.push_back(std::move(row));
  }
  std::stable_sort(profile.operators.begin(), profile.operators.end(),
                   [](const OperatorRow& a, const OperatorRow& b) {
                     return std::max(a.self_ns, a.device_ns) >
                            std::max(b.self_ns, b.device_ns);
                   });
}

}  // namespace

OperatorProfile sort_events(std::vector<ProfiledEvent> events) {
  order(events);
  std::vector<Place> places(events.size());
  OperatorProfile profile;
  profile.escaped = nest(events, places);
  mark_steps(events, places);
  find_modules(events, places);
  add_up(events, places, profile);
  return profile;
}

std::int64_t OperatorProfile::self_ns() const {
  std::int64_t sum = -other_threads_ns;
  for (const GroupRow& row : groups) sum += row.self_ns;
  return sum;
}

std::int64_t OperatorProfile::device_ns() const {
  std::int64_t sum = 0;
  for (const GroupRow& row : groups) sum += row.device_ns;
  return sum;
}

double OperatorProfile::share(OperatorGroup group) const {
  return static_cast<double>(
             groups.at(static_cast<std::size_t>(group)).self_ns) /
         static_cast<double>(wall_ns + other_threads_ns);
}

double OperatorProfile::outside_products() const {
  return 1 - share(OperatorGroup::kMatmul) - share(OperatorGroup::kAttention);
}

std::vector<std::string> OperatorProfile::idle_modules(
    const std::vector<std::string>& names) const {
  std::vector<std::string> idle;
  for (const std::string& name : names) {
    const bool busy =
        std::any_of(modules.begin(), modules.end(), [&](const ModuleRow& row) {
          return row.name == name && row.forward_ns > 0 && row.backward_ns > 0;
        });
    if (!busy) idle.push_back(name);
  }
  return idle;
}

std::vector<ModuleRow> OperatorProfile::modules_of_all_layers() const {
  std::vector<ModuleRow> rows;
  for (const ModuleRow& module : modules) {
    std::string name;
    for (const char c : module.name) {
      if (std::isdigit(static_cast<unsigned char>(c)) == 0) {
        name += c;
      } else if (name.empty() || name.back() != '*') {
        name += '*';
      }
    }
    auto row = std::find_if(rows.begin(), rows.end(),
                            [&](const ModuleRow& r) { return r.name == name; });
    if (row == rows.end()) row = rows.insert(rows.end(), {name});
    row->forward_ns += module.forward_ns;
    row->backward_ns += module.backward_ns;
    row->device_ns += module.device_ns;
  }
  return rows;
}

}  // namespace dai::intro
