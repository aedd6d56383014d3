// SPDX-License-Identifier: Apache-2.0
#include "ch03_ddp/doctor/call.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <stdexcept>

namespace dai::ddp {

namespace {

struct Field {
  const char* name;
  std::string value;
};

// Of the signature, the most telling first.
std::vector<Field> fields_of(const Call& call) {
  const CollectiveEvent& e = call.event;
  std::vector<Field> fields{
      {"step", fmt::format("{}", call.step)}, {"op", e.op}, {"dtype", e.dtype}};
  if (e.op != "all_to_all") {
    fields.push_back({"shape", fmt::format("{}", fmt::join(e.shape, ","))});
    fields.push_back({"tensors", fmt::format("{}", e.tensors)});
    fields.push_back({"bytes", fmt::format("{}", e.bytes)});
  }
  fields.push_back({"subject", e.subject});
  fields.push_back({"reduce op", e.reduce_op});
  fields.push_back({"root", fmt::format("{}", e.root)});
  return fields;
}

}  // namespace

std::string Call::signature() const {
  std::string text;
  for (const Field& field : fields_of(*this)) text += field.value + "|";
  return text;
}

std::string Call::identity() const {
  Call anytime = *this;
  anytime.step = 0;
  return anytime.signature() + event.where;
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
  const std::vector<Field> of_a = fields_of(a), of_b = fields_of(b);
  for (std::size_t k = 0; k < std::min(of_a.size(), of_b.size()); ++k) {
    if (of_a[k].value != of_b[k].value) names.emplace_back(of_a[k].name);
  }
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
