// SPDX-License-Identifier: Apache-2.0
#pragma once

// A checkpoint is a folder: safetensors files, each written by one rank, and a
// manifest.json, written last, that says which elements of which tensor lie
// where. No manifest, no checkpoint: a run that dies while saving leaves a
// folder that nobody mistakes for one. Use a new folder for each checkpoint.
//
//   manifest.add_shard("w", Dtype::F32, {4, 3}, "rank_1.safetensors", 6, half);
//   write_manifest(folder, manifest);               // rank 0, after a barrier
//   Checkpoint(folder).read("w", 0, whole);         // any cut, any world size
//
// A shard is a run of elements [offset, offset + count) of the tensor flattened
// in row-major order. That is what ZeRO's and FSDP's flat shards are (they cut
// in the middle of rows); a DDP tensor is one run, a dim-0 shard is one run;
// and resuming at another world size is intersecting intervals. A shard cut
// along another dimension is stored as its rows or gathered first.
//
// Bad files throw UsageError with one line that names file and tensor.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/safetensors.h"

namespace dai {

struct ShardEntry {
  std::string file;         // in the same folder; holds the logical name
  std::int64_t offset = 0;  // first element, of the flattened tensor
  std::int64_t count = 0;   // elements
  std::uint32_t crc32 = 0;  // zlib's, of the shard's bytes
};

struct TensorEntry {
  Dtype dtype{};
  Shape shape;  // global
  std::vector<ShardEntry> shards;
};

struct CheckpointManifest {
  Metadata metadata;  // step, seed, world size: whatever resuming needs
  std::map<std::string, TensorEntry, std::less<>> tensors;

  // Throws std::invalid_argument if the tensor is known with another dtype or
  // shape, or if the bytes are no whole number of elements inside it.
  void add_shard(const std::string& name, Dtype dtype, const Shape& shape,
                 const std::string& file, std::int64_t offset,
                 std::span<const std::byte> bytes);
  // Takes over the tensors of another rank's manifest (sent as to_json()).
  void merge(const CheckpointManifest& other);
};

std::string to_json(const CheckpointManifest& manifest);
// Accepts a manifest of some of the shards, as one rank knows it.
CheckpointManifest parse_manifest(std::string_view text,
                                  std::string_view where);

// Writes manifest.json atomically. Throws std::invalid_argument if the shards
// of a tensor leave a gap or overlap, or if a shard's file is not there.
void write_manifest(const std::filesystem::path& folder,
                    const CheckpointManifest& manifest);

// A complete checkpoint. Opening checks everything except the data: manifest,
// coverage, every shard file and its header. Data is checked against its CRC
// when a shard is first read, so that a rank pays only for what it loads.
class Checkpoint {
 public:
  explicit Checkpoint(std::filesystem::path folder);

  const CheckpointManifest& manifest() const { return manifest_; }
  // Fills `out` with the elements from `offset` on, out of as many shards as
  // they lie in. Throws std::invalid_argument for a range outside the tensor.
  void read(std::string_view name, std::int64_t offset,
            std::span<std::byte> out);
  // Checks every shard's CRC.
  void verify();

 private:
  std::span<const std::byte> shard_bytes(std::string_view name,
                                         const ShardEntry& shard);
  std::filesystem::path folder_;
  CheckpointManifest manifest_;
  std::map<std::string, SafetensorsFile> files_;
  std::set<const ShardEntry*> verified_;
};

}  // namespace dai
