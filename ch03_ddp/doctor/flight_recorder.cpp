// SPDX-License-Identifier: Apache-2.0
#include "ch03_ddp/doctor/flight_recorder.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <bit>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>
#include <stdexcept>

#include "common/file.h"

namespace dai::ddp {
namespace {

using Json = nlohmann::ordered_json;

// fr_trace's names, in torch/distributed/flight_recorder/components/types.py.
std::string name_of(const Call& call, const RecorderGroup& group) {
  static const std::map<std::string, std::string> kNames = {
      {"barrier", "all_reduce_barrier"},
      {"all_gather", "_all_gather_base"},
      {"reduce_scatter", "_reduce_scatter_base"}};
  const CollectiveEvent& e = call.event;
  if (e.op == "send")
    return fmt::format("nccl:send {}->{}", group.rank, e.peer);
  if (e.op == "recv")
    return fmt::format("nccl:recv {}<-{}", group.rank, e.peer);
  const auto found = kNames.find(e.op);
  return "nccl:" + (found == kNames.end() ? e.op : found->second);
}

std::vector<std::int64_t> output_shape(const CollectiveEvent& event,
                                       int ranks) {
  std::vector<std::int64_t> shape = event.shape;
  if (shape.empty()) shape.push_back(1);
  if (event.op == "all_gather") shape[0] *= ranks;
  if (event.op == "reduce_scatter") shape[0] /= ranks;
  return shape;
}

// PyTorch's word for float32 is Float.
std::string dtype_of(const CollectiveEvent& event) {
  static const std::map<std::string, std::string> kNames = {
      {"float32", "Float"},     {"float64", "Double"}, {"float16", "Half"},
      {"bfloat16", "BFloat16"}, {"int64", "Long"},     {"int32", "Int"},
      {"int8", "Char"},         {"uint8", "Byte"},     {"bool", "Bool"}};
  const auto found = kNames.find(event.dtype);
  if (event.dtype.empty()) return "Byte";  // of a barrier
  return found == kNames.end() ? event.dtype : found->second;
}

Json frames_of(const Call& call) {
  const std::string& where = call.event.where;
  const auto colon = where.rfind(':');
  Json frame = {
      {"name", call.event.subject.empty() ? call.event.op : call.event.subject},
      {"filename", where.substr(0, colon)},
      {"line", std::int64_t{0}}};
  if (colon != std::string::npos) {
    frame["line"] = std::stoll(where.substr(colon + 1));
  }
  return Json::array({frame});
}

Json entry(const Call& call, std::size_t record, const RecorderGroup& group) {
  const CollectiveEvent& e = call.event;
  const bool done = call.state == CallState::kDone;
  const std::int64_t ended_ns =
      call.begun_ns +
      static_cast<std::int64_t>((call.ended_us - call.begun_us) * 1e3);
  const auto sequence = static_cast<std::int64_t>(e.sequence);
  std::vector<std::int64_t> input = e.shape;
  if (input.empty()) input.push_back(1);
  Json json = {
      {"record_id", static_cast<std::int64_t>(record)},
      {"pg_id", std::int64_t{0}},
      {"process_group", {group.name, "default_pg"}},
      {"collective_seq_id", e.is_message() ? std::int64_t{0} : sequence},
      {"p2p_seq_id", e.is_message() ? sequence : std::int64_t{0}},
      {"op_id", static_cast<std::int64_t>(record) + 1},
      {"profiling_name", name_of(call, group)},
      {"time_created_ns", call.begun_ns},
      {"frames", frames_of(call)},
      {"input_sizes", Json::array({input})},
      {"input_dtypes", Json::array({dtype_of(e)})},
      {"output_sizes", Json::array({output_shape(e, group.ranks)})},
      {"output_dtypes", Json::array({dtype_of(e)})},
      {"state", done                                ? "completed"
                : call.state == CallState::kRefused ? "scheduled"
                                                    : "started"},
      {"time_discovered_started_ns", call.begun_ns},
      {"time_discovered_completed_ns", done ? Json(ended_ns) : Json(nullptr)},
      {"retired", done},
      {"timeout_ms", std::int64_t{0}},
      {"is_p2p", e.is_message()},
      {"reduce_op", e.reduce_op},
      {"root", e.root},
      {"step", call.step}};
  if (done) json["duration_ms"] = (call.ended_us - call.begun_us) / 1e3;
  return json;
}

class Pickler {
 public:
  std::string pickle(const Json& value) {
    out_ = "\x80\x02";
    put(value);
    out_ += '.';
    return std::move(out_);
  }

 private:
  template <typename Integer>
  void little_endian(Integer value) {
    static_assert(std::endian::native == std::endian::little);
    out_.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  void put_text(const std::string& text) {
    out_ += 'X';  // BINUNICODE
    little_endian(static_cast<std::uint32_t>(text.size()));
    out_ += text;
  }
  void put_int(std::int64_t value) {
    out_ += "\x8a\x08";  // LONG1 of 8 bytes
    little_endian(value);
  }
  void put_double(double value) {
    out_ += 'G';  // BINFLOAT is big-endian
    const auto bits = std::bit_cast<std::uint64_t>(value);
    for (int shift = 56; shift >= 0; shift -= 8) {
      out_ += static_cast<char>(bits >> shift);
    }
  }
  void put(const Json& value) {
    switch (value.type()) {
      case Json::value_t::null:
        out_ += 'N';
        break;
      case Json::value_t::boolean:
        out_ += value.get<bool>() ? "\x88" : "\x89";
        break;
      case Json::value_t::number_integer:
      case Json::value_t::number_unsigned:
        put_int(value.get<std::int64_t>());
        break;
      case Json::value_t::number_float:
        put_double(value.get<double>());
        break;
      case Json::value_t::string:
        put_text(value.get<std::string>());
        break;
      case Json::value_t::array:
        out_ += "](";  // EMPTY_LIST, MARK ... APPENDS
        for (const Json& one : value) put(one);
        out_ += 'e';
        break;
      case Json::value_t::object:
        out_ += "}(";  // EMPTY_DICT, MARK ... SETITEMS
        for (const auto& [key, one] : value.items()) {
          put_text(key);
          put(one);
        }
        out_ += 'u';
        break;
      default:
        throw std::runtime_error("no pickle for such a value");
    }
  }
  std::string out_;
};

}  // namespace

Json flight_record(const std::vector<Call>& calls, const RecorderGroup& group) {
  std::vector<int> ranks(group.ranks);
  std::iota(ranks.begin(), ranks.end(), 0);
  Json record = {{"version", "2.10"},
                 {"pg_config",
                  {{group.name,
                    {{"name", group.name},
                     {"desc", "default_pg"},
                     {"ranks", fmt::format("[{}]", fmt::join(ranks, ", "))}}}}},
                 {"pg_status", {{group.name, Json::object()}}},
                 {"entries", Json::array()}};
  std::int64_t enqueued = -1, started = -1, completed = -1;
  // Numbered by what was before, so that fr_trace can align ranks whose
  // records begin at different calls.
  std::size_t number = calls.empty() ? 0 : calls.front().event.sequence - 1;
  for (const Call& call : calls) {
    record["entries"].push_back(entry(call, number++, group));
    if (call.event.is_message()) continue;
    const auto sequence = static_cast<std::int64_t>(call.event.sequence);
    enqueued = std::max(enqueued, sequence);
    if (call.state != CallState::kRefused) {
      started = std::max(started, sequence);
    }
    if (call.state == CallState::kDone)
      completed = std::max(completed, sequence);
  }
  record["pg_status"][group.name] = {{"last_enqueued_collective", enqueued},
                                     {"last_started_collective", started},
                                     {"last_completed_collective", completed}};
  return record;
}

std::string to_pickle(const Json& value) {
  return Pickler().pickle(value);
}

void write_flight_recorder(const std::filesystem::path& folder,
                           const std::vector<Call>& calls,
                           const RecorderGroup& group) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) {
    throw std::runtime_error(
        fmt::format("{}: {}", folder.string(), error.message()));
  }
  const Json record = flight_record(calls, group);
  write_file_atomically(folder / fmt::format("calls_{}", group.rank),
                        to_pickle(record));
  write_file_atomically(folder / fmt::format("record_{}.json", group.rank),
                        record.dump(1) + "\n");
}

}  // namespace dai::ddp
