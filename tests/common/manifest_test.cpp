// SPDX-License-Identifier: Apache-2.0
#include "common/manifest.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>
#include <random>
#include <stdexcept>

#include "common/errors.h"
#include "tests/common/temp_folder.h"

namespace dai {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// CRC-32 as zlib's manual defines it, bit by bit.
std::uint32_t plain_crc32(std::span<const std::byte> bytes) {
  std::uint32_t crc = 0xffffffff;
  for (const std::byte byte : bytes) {
    crc ^= static_cast<std::uint32_t>(byte);
    for (int bit = 0; bit < 8; ++bit) {
      crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0xedb88320 : 0);
    }
  }
  return ~crc;
}

// A [5, 7] tensor of 0, 1, 2, ... and a scalar, saved by `world_size` ranks as
// flat shards: cuts fall in the middle of rows.
class Manifest : public TempFolder {
 protected:
  void save(int world_size) {
    std::vector<float> w(35);
    std::iota(w.begin(), w.end(), 0.0f);
    const std::vector<std::int64_t> step{42};
    CheckpointManifest whole;
    whole.metadata = {{"step", "42"}};
    for (int rank = 0; rank < world_size; ++rank) {
      const std::int64_t begin = 35 * rank / world_size;
      const std::int64_t end = 35 * (rank + 1) / world_size;
      const auto part =
          bytes_of(w).subspan(static_cast<std::size_t>(begin) * 4,
                              static_cast<std::size_t>(end - begin) * 4);
      const std::string file = "rank_" + std::to_string(rank) + ".safetensors";
      CheckpointManifest mine;
      mine.add_shard("w", Dtype::F32, {5, 7}, file, begin, part);
      std::vector<NamedTensor> tensors{{"w", Dtype::F32, {end - begin}, part}};
      if (rank == 0) {
        mine.add_shard("step", Dtype::I64, {}, file, 0, bytes_of(step));
        tensors.push_back({"step", Dtype::I64, {}, bytes_of(step)});
      }
      save_safetensors(folder_ / file, tensors);
      // As it travels from rank to rank.
      whole.merge(parse_manifest(to_json(mine), "rank"));
    }
    write_manifest(folder_, whole);
  }

  void edit(const std::string& from, const std::string& to) {
    std::string text = read_file(folder_ / "manifest.json");
    const std::size_t at = text.find(from);
    ASSERT_NE(at, std::string::npos) << text;
    write_file_atomically(folder_ / "manifest.json",
                          text.replace(at, from.size(), to));
  }

  std::string refusal() {
    return message_of<UsageError>([&] { Checkpoint(folder_).verify(); });
  }
};

TEST_F(Manifest, AnyCutReadsBackFromAnyWorldSize) {
  for (const int saved_by : {1, 2, 3, 4}) {
    save(saved_by);
    Checkpoint checkpoint(folder_);
    EXPECT_EQ(checkpoint.manifest().metadata.at("step"), "42");
    checkpoint.verify();
    for (const int read_by : {1, 2, 3, 4, 36}) {
      for (int rank = 0; rank < read_by; ++rank) {
        const std::int64_t begin = 35 * rank / read_by;
        std::vector<float> part(
            static_cast<std::size_t>(35 * (rank + 1) / read_by - begin));
        checkpoint.read("w", begin, std::as_writable_bytes(std::span(part)));
        for (std::size_t i = 0; i < part.size(); ++i) {
          ASSERT_EQ(part[i], static_cast<float>(begin) + static_cast<float>(i));
        }
      }
    }
    std::int64_t step = 0;
    checkpoint.read("step", 0, std::as_writable_bytes(std::span(&step, 1)));
    EXPECT_EQ(step, 42);
  }
}

TEST_F(Manifest, SaysWhatLiesWhere) {
  save(2);
  const CheckpointManifest manifest = Checkpoint(folder_).manifest();
  const TensorEntry& w = manifest.tensors.at("w");
  EXPECT_EQ(w.dtype, Dtype::F32);
  EXPECT_THAT(w.shape, ElementsAre(5, 7));
  ASSERT_EQ(w.shards.size(), 2u);
  EXPECT_EQ(w.shards[1].file, "rank_1.safetensors");
  EXPECT_EQ(w.shards[1].offset, 17);
  EXPECT_EQ(w.shards[1].count, 18);
  const auto file = SafetensorsFile::open(folder_ / "rank_1.safetensors");
  EXPECT_EQ(w.shards[1].crc32, plain_crc32(file.at("w").bytes));
}

TEST_F(Manifest, WithoutAManifestThereIsNoCheckpoint) {
  save(2);
  fs::remove(folder_ / "manifest.json");
  EXPECT_THAT(refusal(), HasSubstr("manifest.json': No such file"));
}

TEST_F(Manifest, AMissingOrCutShardFileIsNamed) {
  save(3);
  fs::resize_file(folder_ / "rank_1.safetensors", 100);
  EXPECT_THAT(refusal(), HasSubstr("rank_1.safetensors': tensor"));
  fs::remove(folder_ / "rank_1.safetensors");
  EXPECT_THAT(refusal(), HasSubstr("rank_1.safetensors': No such file"));
}

TEST_F(Manifest, ADamagedByteNamesFileAndTensor) {
  save(2);
  const fs::path path = folder_ / "rank_1.safetensors";
  std::string text = read_file(path);
  text.back() = static_cast<char>(text.back() ^ 1);
  write_file_atomically(path, text);
  Checkpoint checkpoint(folder_);  // the data is checked when it is read
  std::vector<float> part(17);
  checkpoint.read("w", 0, std::as_writable_bytes(std::span(part)));
  part.resize(18);
  const auto what = message_of<UsageError>([&] {
    checkpoint.read("w", 0, std::as_writable_bytes(std::span(part)));
  });
  EXPECT_THAT(what, HasSubstr("rank_1.safetensors': tensor \"w\" has CRC"));
  EXPECT_EQ(refusal(), what);
}

TEST_F(Manifest, AShardOfAnotherSizeOrNameIsRefused) {
  save(2);
  const std::vector<float> few(3);
  save_safetensors(folder_ / "rank_1.safetensors",
                   {{"w", Dtype::F32, {3}, bytes_of(few)}});
  EXPECT_THAT(refusal(), HasSubstr("is F32 x 3, the manifest says F32 x 18"));
  save_safetensors(folder_ / "rank_1.safetensors", {});
  EXPECT_THAT(refusal(), HasSubstr("no tensor \"w\" among its 0"));
}

TEST_F(Manifest, GapsAndOverlapsAreRefused) {
  save(2);
  edit("\"offset\": 17", "\"offset\": 16");
  EXPECT_THAT(refusal(), HasSubstr("\"w\": shards overlap at element 16"));
  edit("\"offset\": 16", "\"offset\": 17");
  edit("\"count\": 18", "\"count\": 17");
  EXPECT_THAT(refusal(), HasSubstr("\"w\": shards leave a gap at element 34"));
}

TEST_F(Manifest, WrongFieldsAreRefused) {
  const auto refused = [&](const std::string& from, const std::string& to) {
    save(2);
    edit(from, to);
    return refusal();
  };
  EXPECT_THAT(refused("dai.checkpoint.v1", "other.v2"),
              HasSubstr("schema \"other.v2\", wanted \"dai.checkpoint.v1\""));
  EXPECT_THAT(refused("\"F32\"", "\"F33\""), HasSubstr("unknown dtype"));
  EXPECT_THAT(refused("\"rank_0.safetensors\"", "\"../rank_0.safetensors\""),
              HasSubstr("no plain file name"));
  EXPECT_THAT(refused("\"rank_0.safetensors\"", "\"a\\u0000b\""),
              HasSubstr("no plain file name"));
  EXPECT_THAT(refused("\"count\": 18", "\"count\": 19"),
              HasSubstr("do not lie in a tensor of 35"));
  EXPECT_THAT(refused("\"offset\": 17", "\"offset\": -17"),
              HasSubstr("wanted an integer"));
  EXPECT_THAT(refused("\"count\": 18", "\"count\": 9223372036854775807"),
              HasSubstr("do not lie in"));
  EXPECT_THAT(refused("\"crc32\": ", "\"crc32\": 99999"),
              HasSubstr("over 32 bits"));
  EXPECT_THAT(refused("\"shards\"", "\"shard\""), HasSubstr("exactly"));
  EXPECT_THAT(refused("\"tensors\"", "\"schema\""), HasSubstr("twice"));
}

TEST_F(Manifest, MisuseByAWriterIsRefused) {
  const std::vector<float> two(2);
  CheckpointManifest manifest;
  EXPECT_THROW(manifest.add_shard("w", Dtype::F32, {3}, "f", 2, bytes_of(two)),
               std::invalid_argument);
  EXPECT_THROW(
      manifest.add_shard("w", Dtype::F64, {3}, "f", 0, bytes_of(two).first(7)),
      std::invalid_argument);
  manifest.add_shard("w", Dtype::F32, {3}, "f", 0, bytes_of(two));
  EXPECT_THROW(manifest.add_shard("w", Dtype::F32, {4}, "f", 2, bytes_of(two)),
               std::invalid_argument);
  const auto write = [&] { write_manifest(folder_, manifest); };
  EXPECT_THAT(message_of<std::invalid_argument>(write),
              HasSubstr("leave a gap at element 2 of 3"));
  manifest.add_shard("w", Dtype::F32, {3}, "f", 2, bytes_of(two).first(4));
  EXPECT_THAT(message_of<std::invalid_argument>(write),
              HasSubstr("tensor \"w\": no file \"f\""));
  EXPECT_TRUE(files().empty());
  save(1);
  Checkpoint checkpoint(folder_);
  std::vector<float> part(35);
  const auto out = std::as_writable_bytes(std::span(part));
  EXPECT_THROW(checkpoint.read("w", 1, out), std::invalid_argument);
  EXPECT_THROW(checkpoint.read("w", -1, {}), std::invalid_argument);
  EXPECT_THROW(checkpoint.read("v", 0, out), UsageError);
}

TEST_F(Manifest, MutatedManifestsNeverCrash) {
  save(3);
  const std::string good = read_file(folder_ / "manifest.json");
  std::mt19937_64 random(1234);
  const auto below = [&](std::size_t n) {
    return static_cast<std::size_t>(random() % n);
  };
  const std::string likely = "{}[]:,\"0123456789-.eE\\/";
  int accepted = 0;
  const auto check = [&](std::string_view text) {
    try {
      for (const auto& [name, tensor] : parse_manifest(text, "m").tensors) {
        for (const ShardEntry& shard : tensor.shards) {
          EXPECT_LE(shard.offset, element_count(tensor.shape) - shard.count);
        }
      }
      ++accepted;
    } catch (const UsageError&) {
    }
  };
  for (std::size_t size = 0; size + 2 < good.size(); ++size) {
    check(std::string_view(good).substr(0, size));
  }
  EXPECT_EQ(accepted, 0);
  for (int round = 0; round < 10'000; ++round) {
    std::string text = good;
    for (std::size_t k = 0; k <= below(3); ++k) {
      char& at = text[below(text.size())];
      switch (below(4)) {
        case 0:
          at = static_cast<char>(at ^ (1 << below(8)));
          break;
        case 1:
          at = likely[below(likely.size())];
          break;
        case 2:
          text.erase(below(text.size()), 1 + below(8));
          break;
        case 3:
          text.insert(below(text.size()),
                      good.substr(below(good.size()), 1 + below(40)));
          break;
      }
    }
    check(text);
  }
  EXPECT_GT(accepted, 100);
  EXPECT_LT(accepted, 8'000);
}

}  // namespace
}  // namespace dai
