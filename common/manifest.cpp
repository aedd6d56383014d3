// SPDX-License-Identifier: Apache-2.0
#include "common/manifest.h"

#include <fmt/format.h>
#include <zlib.h>

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <utility>

#include "common/file.h"
#include "common/strict_json.h"

namespace dai {

using nlohmann::json;
namespace fs = std::filesystem;

namespace {

constexpr const char* kSchema = "dai.checkpoint.v1";
constexpr const char* kFileName = "manifest.json";

std::uint32_t checksum(std::span<const std::byte> bytes) {
  return static_cast<std::uint32_t>(::crc32_z(
      0, reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size()));
}

// How many elements `bytes` bytes at `offset` are, if they lie in the tensor.
std::int64_t run_length(std::string_view name, Dtype dtype, const Shape& shape,
                        std::int64_t offset, std::size_t bytes) {
  const auto count = static_cast<std::int64_t>(bytes / dtype_bytes(dtype));
  const std::int64_t elements = element_count(shape);
  if (bytes % dtype_bytes(dtype) != 0 || offset < 0 || offset > elements ||
      count > elements - offset) {
    throw std::invalid_argument(fmt::format(
        "tensor {}: {} bytes at element {} are no run of its {} elements",
        printable(name), bytes, offset, elements));
  }
  return count;
}

// Empty if each tensor's shards cover it exactly once, else what is wrong.
std::string coverage_problem(const CheckpointManifest& manifest) {
  for (const auto& [name, tensor] : manifest.tensors) {
    std::vector<std::pair<std::int64_t, std::int64_t>> runs;
    for (const ShardEntry& shard : tensor.shards) {
      runs.emplace_back(shard.offset, shard.offset + shard.count);
    }
    const std::int64_t elements = element_count(tensor.shape);
    runs.emplace_back(elements, elements);
    std::sort(runs.begin(), runs.end());
    std::int64_t expected = 0;
    for (const auto& [begin, end] : runs) {
      if (begin != expected) {
        return fmt::format("tensor {}: shards {} at element {} of {}",
                           printable(name),
                           begin < expected ? "overlap" : "leave a gap",
                           std::min(begin, expected), elements);
      }
      expected = end;
    }
  }
  return {};
}

ShardEntry parse_shard(const json& item, std::int64_t elements,
                       std::string_view where) {
  want_keys(item, {"file", "offset", "count", "crc32"}, where);
  ShardEntry shard;
  shard.file = get_string(item, "file", where);
  // A manifest must not reach out of its folder.
  if (shard.file.empty() || shard.file == "." || shard.file == ".." ||
      shard.file.find_first_of(std::string_view("/\0", 2)) !=
          std::string::npos) {
    refuse(where, "{} is no plain file name", printable(shard.file));
  }
  shard.offset = get_count(item, "offset", where);
  shard.count = get_count(item, "count", where);
  if (shard.offset > elements || shard.count > elements - shard.offset) {
    refuse(where, "{} elements from {} on do not lie in a tensor of {}",
           shard.count, shard.offset, elements);
  }
  const std::int64_t crc = get_count(item, "crc32", where);
  if (!std::in_range<std::uint32_t>(crc)) {
    refuse(where, "crc32 {} has over 32 bits", crc);
  }
  shard.crc32 = static_cast<std::uint32_t>(crc);
  return shard;
}

}  // namespace

void CheckpointManifest::add_shard(const std::string& name, Dtype dtype,
                                   const Shape& shape, const std::string& file,
                                   std::int64_t offset,
                                   std::span<const std::byte> bytes) {
  const std::int64_t count =
      run_length(name, dtype, shape, offset, bytes.size());
  CheckpointManifest one;
  one.tensors[name] = {dtype, shape, {{file, offset, count, checksum(bytes)}}};
  merge(one);
}

void CheckpointManifest::merge(const CheckpointManifest& other) {
  for (const auto& [name, theirs] : other.tensors) {
    const auto [it, is_new] = tensors.try_emplace(name, theirs);
    TensorEntry& ours = it->second;
    if (is_new) continue;
    if (ours.dtype != theirs.dtype || ours.shape != theirs.shape) {
      throw std::invalid_argument(fmt::format(
          "tensor {}: ranks disagree on its dtype or shape", printable(name)));
    }
    ours.shards.insert(ours.shards.end(), theirs.shards.begin(),
                       theirs.shards.end());
  }
}

std::string to_json(const CheckpointManifest& manifest) {
  json tensors = json::object();
  for (const auto& [name, tensor] : manifest.tensors) {
    json shards = json::array();
    for (const ShardEntry& shard : tensor.shards) {
      shards.push_back({{"file", shard.file},
                        {"offset", shard.offset},
                        {"count", shard.count},
                        {"crc32", shard.crc32}});
    }
    tensors[name] = {{"dtype", dtype_name(tensor.dtype)},
                     {"shape", tensor.shape},
                     {"shards", std::move(shards)}};
  }
  const json root = {{"schema", kSchema},
                     {"metadata", manifest.metadata},
                     {"tensors", std::move(tensors)}};
  return root.dump(1) + "\n";
}

CheckpointManifest parse_manifest(std::string_view text,
                                  std::string_view where) {
  // Deepest: { "tensors": { name: { "shards": [ { } ] } } }.
  const json root = parse_strict_json(text, where, 5);
  const std::string schema = get_string(root, "schema", where);
  if (schema != kSchema) {
    refuse(where, "schema {}, wanted \"{}\"", printable(schema), kSchema);
  }
  want_keys(root, {"schema", "metadata", "tensors"}, where);
  CheckpointManifest manifest;
  manifest.metadata = get_strings(root, "metadata", where);
  if (!root["tensors"].is_object()) {
    refuse(where, "\"tensors\" is no object");
  }
  for (const auto& [name, item] : root["tensors"].items()) {
    const std::string here =
        fmt::format("{}: tensor {}", where, printable(name));
    want_keys(item, {"dtype", "shape", "shards"}, here);
    TensorEntry tensor;
    tensor.dtype = parse_dtype(get_string(item, "dtype", here), here);
    tensor.shape = get_counts(item, "shape", here);
    try {
      tensor_bytes(tensor.dtype, tensor.shape);
    } catch (const std::invalid_argument& error) {
      refuse(here, "{}", error.what());
    }
    if (!item["shards"].is_array()) {
      refuse(here, "\"shards\" is no list");
    }
    for (const json& shard : item["shards"]) {
      tensor.shards.push_back(
          parse_shard(shard, element_count(tensor.shape), here));
    }
    manifest.tensors.emplace(name, std::move(tensor));
  }
  return manifest;
}

void write_manifest(const fs::path& folder,
                    const CheckpointManifest& manifest) {
  std::string problem = coverage_problem(manifest);
  for (const auto& [name, tensor] : manifest.tensors) {
    for (const ShardEntry& shard : tensor.shards) {
      if (problem.empty() && !fs::is_regular_file(folder / shard.file)) {
        problem = fmt::format("tensor {}: no file {}", printable(name),
                              printable(shard.file));
      }
    }
  }
  if (!problem.empty()) {
    throw std::invalid_argument(fmt::format("incomplete checkpoint '{}': {}",
                                            folder.string(), problem));
  }
  write_file_atomically(folder / kFileName, to_json(manifest));
}

Checkpoint::Checkpoint(fs::path folder) : folder_(std::move(folder)) {
  const fs::path path = folder_ / kFileName;
  const std::string where = fmt::format("'{}'", path.string());
  manifest_ = parse_manifest(read_file(path), where);
  if (const auto problem = coverage_problem(manifest_); !problem.empty()) {
    refuse(where, "{}", problem);
  }
  for (const auto& [name, tensor] : manifest_.tensors) {
    for (const ShardEntry& shard : tensor.shards) {
      const fs::path file = folder_ / shard.file;
      if (!files_.contains(shard.file)) {
        files_.emplace(shard.file, SafetensorsFile::open(file));
      }
      const TensorView& view = files_.at(shard.file).at(name);
      if (view.dtype != tensor.dtype ||
          element_count(view.shape) != shard.count) {
        refuse(fmt::format("'{}'", file.string()),
               "tensor {} is {} x {}, the manifest says {} x {}",
               printable(name), dtype_name(view.dtype),
               element_count(view.shape), dtype_name(tensor.dtype),
               shard.count);
      }
    }
  }
}

std::span<const std::byte> Checkpoint::shard_bytes(std::string_view name,
                                                   const ShardEntry& shard) {
  const auto bytes = files_.at(shard.file).at(name).bytes;
  if (verified_.contains(&shard)) return bytes;
  if (const std::uint32_t crc = checksum(bytes); crc != shard.crc32) {
    refuse(fmt::format("'{}'", (folder_ / shard.file).string()),
           "tensor {} has CRC {:08x}, the manifest says {:08x}: damaged, or "
           "of another save",
           printable(name), crc, shard.crc32);
  }
  verified_.insert(&shard);
  return bytes;
}

void Checkpoint::read(std::string_view name, std::int64_t offset,
                      std::span<std::byte> out) {
  const auto it = manifest_.tensors.find(name);
  if (it == manifest_.tensors.end()) {
    refuse(fmt::format("checkpoint '{}'", folder_.string()),
           "no tensor {} among its {}", printable(name),
           manifest_.tensors.size());
  }
  const TensorEntry& tensor = it->second;
  const auto unit = static_cast<std::int64_t>(dtype_bytes(tensor.dtype));
  const std::int64_t count =
      run_length(name, tensor.dtype, tensor.shape, offset, out.size());
  for (const ShardEntry& shard : tensor.shards) {
    const std::int64_t begin = std::max(offset, shard.offset);
    const std::int64_t end =
        std::min(offset + count, shard.offset + shard.count);
    if (begin >= end) continue;
    std::memcpy(out.data() + (begin - offset) * unit,
                shard_bytes(name, shard).data() + (begin - shard.offset) * unit,
                static_cast<std::size_t>((end - begin) * unit));
  }
}

void Checkpoint::verify() {
  for (const auto& [name, tensor] : manifest_.tensors) {
    for (const ShardEntry& shard : tensor.shards) shard_bytes(name, shard);
  }
}

}  // namespace dai
