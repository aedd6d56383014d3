// SPDX-License-Identifier: Apache-2.0
#include "ch03_ddp/doctor/call.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <nlohmann/json.hpp>
#include <stdexcept>

namespace dai::ddp {

std::string Call::identity() const {
  const CollectiveEvent& e = event;
  return fmt::format("{}|{}[{}]|{}|{}|{}|{}|{}|{}", e.op, e.dtype,
                     fmt::join(e.shape, ","), e.tensors, e.bytes, e.reduce_op,
                     e.root, e.where, e.subject);
}

std::string Call::signature() const {
  return fmt::format("{}|{}", step, identity());
}

std::string Call::to_string() const {
  std::string text = event.to_string();
  if (step >= 0) text += fmt::format(", step {}", step);
  return text;
}

bool is_closing(const CollectiveEvent& event) {
  return event.op == "barrier" && event.subject == kGroupEnds;
}

std::vector<std::string> differences(const Call& a, const Call& b) {
  std::vector<std::string> names;
  const auto compare = [&](const char* name, const auto& x, const auto& y) {
    if (x != y) names.emplace_back(name);
  };
  compare("step", a.step, b.step);
  compare("op", a.event.op, b.event.op);
  compare("dtype", a.event.dtype, b.event.dtype);
  compare("shape", a.event.shape, b.event.shape);
  compare("tensors", a.event.tensors, b.event.tensors);
  compare("reduce op", a.event.reduce_op, b.event.reduce_op);
  compare("root", a.event.root, b.event.root);
  compare("place", a.event.where, b.event.where);
  compare("subject", a.event.subject, b.event.subject);
  return names;
}

nlohmann::ordered_json to_json(const Call& call) {
  const CollectiveEvent& e = call.event;
  return {{"seq", e.sequence},
          {"op", e.op},
          {"group", e.group},
          {"dtype", e.dtype},
          {"shape", e.shape},
          {"tensors", e.tensors},
          {"bytes", e.bytes},
          {"reduce", e.reduce_op},
          {"root", e.root},
          {"peer", e.peer},
          {"tag", e.tag},
          {"where", e.where},
          {"subject", e.subject},
          {"step", call.step},
          {"state", static_cast<int>(call.state)},
          {"begun_ns", call.begun_ns},
          {"begun_us", call.begun_us},
          {"ended_us", call.ended_us}};
}

Call call_from_json(const nlohmann::ordered_json& json) {
  Call call;
  CollectiveEvent& e = call.event;
  try {
    json.at("seq").get_to(e.sequence);
    json.at("op").get_to(e.op);
    json.at("group").get_to(e.group);
    json.at("dtype").get_to(e.dtype);
    json.at("shape").get_to(e.shape);
    json.at("tensors").get_to(e.tensors);
    json.at("bytes").get_to(e.bytes);
    json.at("reduce").get_to(e.reduce_op);
    json.at("root").get_to(e.root);
    json.at("peer").get_to(e.peer);
    json.at("tag").get_to(e.tag);
    json.at("where").get_to(e.where);
    json.at("subject").get_to(e.subject);
    json.at("step").get_to(call.step);
    const int state = json.at("state").get<int>();
    if (state < 0 || state > static_cast<int>(CallState::kRefused)) {
      throw std::runtime_error("a call in an unknown state");
    }
    call.state = static_cast<CallState>(state);
    json.at("begun_ns").get_to(call.begun_ns);
    json.at("begun_us").get_to(call.begun_us);
    json.at("ended_us").get_to(call.ended_us);
  } catch (const nlohmann::json::exception& error) {
    throw std::runtime_error(fmt::format("not a call: {}", error.what()));
  }
  return call;
}

}  // namespace dai::ddp
