// SPDX-License-Identifier: Apache-2.0
#include "ch03_ddp/checkpoint/checkpoint_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <optional>

#include "ch03_ddp/checkpoint/checkpoint_report.h"
#include "ch03_ddp/checkpoint/example_checkpoint.h"
#include "common/errors.h"
#include "tests/common/temp_folder.h"

namespace dai::ddp {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class CheckpointStoreTest : public TempFolder {
 protected:
  // A whole one, as a run would leave it.
  void save(std::int64_t step, const std::string& token = "mine") {
    write_example_checkpoint(store().begin(step, token));
    store().commit(step, token);
  }
  void SetUp() override {
    TempFolder::SetUp();
    made_.emplace(folder_ / "run");
  }
  const CheckpointStore& store() const { return *made_; }

 private:
  std::optional<CheckpointStore> made_;
};

TEST_F(CheckpointStoreTest, OfNothingThereIsNoNewest) {
  EXPECT_EQ(store().find_newest().step, -1);
  EXPECT_THAT(store().find_newest().path.string(), IsEmpty());
  EXPECT_THAT(store().steps(), IsEmpty());
}

TEST_F(CheckpointStoreTest, WhatWasNotCommittedIsNone) {
  save(5);
  write_example_checkpoint(store().begin(9, "mine"));
  EXPECT_EQ(store().find_newest().step, 5);
  store().commit(9, "mine");
  EXPECT_EQ(store().find_newest().step, 9);
}

TEST_F(CheckpointStoreTest, DamagedOnesArePassedOverFromTheNewestOn) {
  for (const std::int64_t step : {1, 2, 30, 100}) save(step);
  flip_a_bit(store().path_of(100));
  fs::remove(store().path_of(30) / "manifest.json");
  const FoundCheckpoint found = store().find_newest();
  EXPECT_EQ(found.step, 2);
  EXPECT_EQ(found.path, store().path_of(2));
  ASSERT_EQ(found.damaged.size(), 2u);
  EXPECT_EQ(found.damaged[0].path, store().path_of(100));
  EXPECT_THAT(found.damaged[0].reason, HasSubstr("has CRC"));
  EXPECT_THAT(found.damaged[1].reason, HasSubstr("manifest.json"));
}

TEST_F(CheckpointStoreTest, AShardCutAnywhereIsFound) {
  save(1);
  save(2);
  const fs::path shard = store().path_of(2) / "rank-00000-of-00002.safetensors";
  for (auto size = static_cast<std::int64_t>(fs::file_size(shard)) - 1;
       size >= 0; size -= size > 4096 ? 4096 : 512) {
    fs::resize_file(shard, size);
    EXPECT_EQ(store().find_newest().step, 1) << size;
  }
}

TEST_F(CheckpointStoreTest, OtherThingsInTheFolderAreNone) {
  save(7);
  fs::create_directory(store().folder() / "step-");
  fs::create_directory(store().folder() / "step-12x");
  fs::create_directory(store().folder() / "step--3");
  std::ofstream(store().folder() / "notes.txt") << "step-99";
  EXPECT_THAT(store().steps(), ElementsAre(7));
}

TEST_F(CheckpointStoreTest, AWholeOneOfTheSameStepStaysADamagedOneGoes) {
  save(3);
  std::ofstream(store().path_of(3) / "mark") << "the first";
  save(3, "other");
  EXPECT_TRUE(fs::exists(store().path_of(3) / "mark"));
  flip_a_bit(store().path_of(3));
  save(3, "other");
  EXPECT_FALSE(fs::exists(store().path_of(3) / "mark"));
  EXPECT_TRUE(store().is_whole(3));
}

TEST_F(CheckpointStoreTest, KeepsTheLastAndEachSoManyth) {
  for (const std::int64_t step : {10, 20, 30, 40, 50, 60}) save(step);
  store().prune(60, {.last = 2, .every = 30});
  EXPECT_THAT(store().steps(), ElementsAre(30, 50, 60));
  store().prune(60, {.last = 1});
  EXPECT_THAT(store().steps(), ElementsAre(60));
  store().prune(60, {.last = 9});
  EXPECT_THAT(store().steps(), ElementsAre(60));
  EXPECT_THROW(KeepPolicy{.last = 0}.check(), UsageError);
}

TEST_F(CheckpointStoreTest, ADamagedOneOfALaterStepTakesNobodysPlace) {
  for (const std::int64_t step : {20, 24, 40}) save(step);
  fs::resize_file(store().path_of(40) / "manifest.json", 10);
  store().prune(24, {.last = 1});
  EXPECT_THAT(store().steps(), ElementsAre(24, 40));
  EXPECT_EQ(store().find_newest().step, 24);
}

TEST_F(CheckpointStoreTest, SweepsWhatOthersHaveLeft) {
  save(1);
  store().begin(2, "dead");
  store().begin(3, "mine");
  store().sweep("mine");
  std::vector<std::string> left;
  for (const auto& entry : fs::directory_iterator(store().folder())) {
    left.push_back(entry.path().filename().string());
  }
  EXPECT_THAT(left, ::testing::UnorderedElementsAre("step-000001",
                                                    ".step-000003.mine"));
}

TEST_F(CheckpointStoreTest, AFileIsNoFolder) {
  std::ofstream(folder_ / "file") << "x";
  EXPECT_THROW(CheckpointStore(folder_ / "file"), UsageError);
}

TEST_F(CheckpointStoreTest, ComparesWhateverTheShards) {
  save(1);
  save(2);
  EXPECT_TRUE(
      compare_checkpoints(store().path_of(1), store().path_of(2)).none());
  // The same numbers, in one shard.
  const fs::path one = folder_ / "one";
  fs::create_directory(one);
  Checkpoint checkpoint(store().path_of(1));
  CheckpointManifest manifest;
  manifest.metadata = {{"steps", "4"}, {"config.model", "example"}};
  std::vector<NamedTensor> tensors;
  std::map<std::string, std::vector<float>> values;
  for (const auto& [name, entry] : checkpoint.manifest().tensors) {
    auto& numbers = values[name];
    numbers.resize(3000);
    checkpoint.read(name, 0, std::as_writable_bytes(std::span(numbers)));
    if (name == "model.weight") numbers[77] += 0.25f;
    const auto bytes = std::as_bytes(std::span(numbers));
    manifest.add_shard(name, entry.dtype, entry.shape, "all", 0, bytes);
    tensors.push_back({name, entry.dtype, entry.shape, bytes});
  }
  save_safetensors(one / "all", tensors);
  write_manifest(one, manifest);
  const auto differences = compare_checkpoints(store().path_of(1), one);
  EXPECT_THAT(differences.metadata, ElementsAre("steps: \"3\" / \"4\""));
  ASSERT_EQ(differences.tensors.size(), 1u);
  EXPECT_EQ(differences.tensors[0].name, "model.weight");
  EXPECT_EQ(differences.tensors[0].elements, 1);
  EXPECT_EQ(differences.tensors[0].max_difference, 0.25);
  EXPECT_EQ(differences.equal, 1);
  flip_a_bit(store().path_of(2));
  EXPECT_THROW(compare_checkpoints(store().path_of(1), store().path_of(2)),
               UsageError);
  EXPECT_THAT(look_at(store().path_of(2)).damage, HasSubstr("CRC"));
  EXPECT_THROW(look_at(folder_ / "none"), UsageError);
}

}  // namespace
}  // namespace dai::ddp
