// SPDX-License-Identifier: Apache-2.0
#include "ch03_ddp/checkpoint/checkpoint_report.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <exception>
#include <map>
#include <set>
#include <span>

#include "common/errors.h"
#include "common/report.h"
#include "common/strict_json.h"

namespace dai::ddp {

namespace fs = std::filesystem;

namespace {

// "adamw.m" of "adamw.m.model.norm.weight".
std::string kind_of(const std::string& name) {
  static const std::vector<std::string> kinds{"adamw.m.", "adamw.v.",
                                              "adamw.step.", "history."};
  for (const std::string& kind : kinds) {
    if (name.starts_with(kind)) return kind.substr(0, kind.size() - 1);
  }
  return name.substr(0, name.find('.'));
}

std::int64_t bytes_of(const TensorEntry& entry) {
  return static_cast<std::int64_t>(tensor_bytes(entry.dtype, entry.shape));
}

std::vector<std::byte> read_whole(Checkpoint& checkpoint,
                                  const std::string& name,
                                  const TensorEntry& entry) {
  std::vector<std::byte> bytes(bytes_of(entry));
  checkpoint.read(name, 0, bytes);
  return bytes;
}

template <typename Number>
void compare_values(std::span<const std::byte> a, std::span<const std::byte> b,
                    TensorDifference& difference) {
  for (std::size_t at = 0; at < a.size(); at += sizeof(Number)) {
    Number x, y;
    std::memcpy(&x, a.data() + at, sizeof x);
    std::memcpy(&y, b.data() + at, sizeof y);
    if (std::memcmp(&x, &y, sizeof x) == 0) continue;
    const double distance = std::abs(double(x) - double(y));
    // A NaN is as far as it gets.
    difference.max_difference =
        std::max(difference.max_difference,
                 std::isnan(distance) ? double(INFINITY) : distance);
  }
}

TensorDifference compare_tensor(const std::string& name,
                                const TensorEntry& entry,
                                std::span<const std::byte> a,
                                std::span<const std::byte> b) {
  TensorDifference difference{.name = name};
  const std::size_t unit = dtype_bytes(entry.dtype);
  for (std::size_t at = 0; at < a.size(); at += unit) {
    difference.elements += std::memcmp(&a[at], &b[at], unit) != 0;
  }
  if (difference.elements == 0) return difference;
  if (entry.dtype == Dtype::F32) compare_values<float>(a, b, difference);
  if (entry.dtype == Dtype::F64) compare_values<double>(a, b, difference);
  return difference;
}

}  // namespace

CheckpointContents look_at(const fs::path& path) {
  if (!fs::is_directory(path)) {
    throw UsageError(fmt::format("'{}' is no folder", path.string()));
  }
  CheckpointContents contents{.path = path};
  try {
    Checkpoint checkpoint(path);
    contents.manifest = checkpoint.manifest();
    checkpoint.verify();
  } catch (const std::exception& error) {
    contents.damage = error.what();
  }
  for (const auto& [name, entry] : contents.manifest.tensors) {
    contents.elements += element_count(entry.shape);
    contents.bytes += bytes_of(entry);
    contents.shards += std::ssize(entry.shards);
  }
  return contents;
}

std::string CheckpointContents::to_string(bool every_tensor) const {
  std::string text =
      fmt::format("{}: {}\n", path.string(), damage.empty() ? "whole" : damage);
  for (const auto& [key, value] : manifest.metadata) {
    text += fmt::format("  {} = {}\n", key, printable(value));
  }
  if (manifest.tensors.empty()) return text;
  text += "\n";
  if (every_tensor) {
    Table table({"tensor", "dtype", "shape", "shards", "bytes"});
    for (const auto& [name, entry] : manifest.tensors) {
      table.add_row({name, std::string(dtype_name(entry.dtype)),
                     fmt::format("[{}]", fmt::join(entry.shape, ", ")),
                     fmt::format("{}", entry.shards.size()),
                     fmt::format("{}", bytes_of(entry))});
    }
    return text + table.to_string();
  }
  struct Kind {
    std::int64_t tensors = 0, elements = 0, bytes = 0;
    std::set<std::string> dtypes;
  };
  std::map<std::string, Kind> kinds;
  std::set<std::string> files;
  for (const auto& [name, entry] : manifest.tensors) {
    Kind& kind = kinds[kind_of(name)];
    ++kind.tensors;
    kind.elements += element_count(entry.shape);
    kind.bytes += bytes_of(entry);
    kind.dtypes.insert(std::string(dtype_name(entry.dtype)));
    for (const ShardEntry& shard : entry.shards) files.insert(shard.file);
  }
  Table table({"what", "tensors", "elements", "dtype", "MB"});
  for (const auto& [name, kind] : kinds) {
    table.add_row({name, fmt::format("{}", kind.tensors),
                   fmt::format("{}", kind.elements),
                   fmt::format("{}", fmt::join(kind.dtypes, " ")),
                   fmt::format("{:.3f}", double(kind.bytes) / 1e6)});
  }
  return text + table.to_string() +
         fmt::format("{} shards in {} files\n", shards, files.size());
}

CheckpointDifferences compare_checkpoints(const fs::path& a,
                                          const fs::path& b) {
  Checkpoint first(a), second(b);
  first.verify();
  second.verify();
  CheckpointDifferences differences;
  const CheckpointManifest &mine = first.manifest(),
                           &theirs = second.manifest();
  Metadata keys = mine.metadata;
  keys.insert(theirs.metadata.begin(), theirs.metadata.end());
  const auto value_of = [](const Metadata& metadata, const std::string& key) {
    const auto found = metadata.find(key);
    return found == metadata.end() ? "nothing" : printable(found->second);
  };
  for (const auto& [key, ignored] : keys) {
    const std::string x = value_of(mine.metadata, key);
    const std::string y = value_of(theirs.metadata, key);
    if (x != y) {
      differences.metadata.push_back(fmt::format("{}: {} / {}", key, x, y));
    }
  }
  for (const auto& [name, entry] : mine.tensors) {
    const auto found = theirs.tensors.find(name);
    if (found == theirs.tensors.end()) {
      differences.tensors.push_back(
          {.name = name, .reason = "in the first only"});
      continue;
    }
    if (found->second.dtype != entry.dtype ||
        found->second.shape != entry.shape) {
      differences.tensors.push_back(
          {.name = name,
           .reason = fmt::format("{} [{}] / {} [{}]", dtype_name(entry.dtype),
                                 fmt::join(entry.shape, ", "),
                                 dtype_name(found->second.dtype),
                                 fmt::join(found->second.shape, ", "))});
      continue;
    }
    auto difference =
        compare_tensor(name, entry, read_whole(first, name, entry),
                       read_whole(second, name, entry));
    if (difference.elements == 0) {
      ++differences.equal;
    } else {
      differences.tensors.push_back(std::move(difference));
    }
  }
  for (const auto& [name, entry] : theirs.tensors) {
    if (!mine.tensors.contains(name)) {
      differences.tensors.push_back(
          {.name = name, .reason = "in the second only"});
    }
  }
  return differences;
}

std::string CheckpointDifferences::to_string() const {
  std::string text;
  for (const std::string& line : metadata) text += "  " + line + "\n";
  if (!tensors.empty()) {
    Table table({"tensor", "elements that differ", "max|a - b|"});
    for (const TensorDifference& one : tensors) {
      table.add_row(
          {one.name,
           one.reason.empty() ? fmt::format("{}", one.elements) : one.reason,
           one.reason.empty() ? fmt::format("{:.3g}", one.max_difference)
                              : "-"});
    }
    text += "\n" + table.to_string();
  }
  return text + fmt::format("{} tensors have the same bits\n", equal);
}

}  // namespace dai::ddp
