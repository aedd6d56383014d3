// SPDX-License-Identifier: Apache-2.0
#include "ch06_paged_inference/model_file/model_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <numbers>
#include <stdexcept>

#include "ch06_paged_inference/model_file/gguf_model.h"
#include "ch06_paged_inference/model_file/hf_model.h"
#include "common/errors.h"
#include "common/file.h"
#include "common/manifest.h"
#include "common/safetensors.h"
#include "tests/ch06_paged_inference/support/tiny_model.h"
#include "tests/common/temp_folder.h"

namespace dai::paged {
namespace {

using ::testing::Each;
using ::testing::HasSubstr;
using ::testing::StartsWith;

class ModelFiles : public TempFolder {
 protected:
  std::filesystem::path write(const std::string& name, const GgufWriter& file) {
    write_file_atomically(folder_ / name, file.bytes());
    return folder_ / name;
  }
  std::string refusal(const std::filesystem::path& path) {
    return message_of<UsageError>([&] { open_model(path); });
  }
  void expect_weights(const ModelFile& model) {
    for (const auto& [name, expected] : weights_) {
      std::vector<float> values(expected.size());
      model.read(name, values);
      EXPECT_EQ(values, expected) << name;
    }
  }

  intro::DecoderConfig config_ = tiny_config();
  Weights weights_ = tiny_weights(config_);
};

TEST_F(ModelFiles, GgufGivesBackTheCheckpointsRows) {
  const auto model = open_model(write("m.gguf", tiny_gguf(config_, weights_)));
  expect_weights(*model);
  const intro::DecoderConfig& read = model->config().decoder;
  EXPECT_EQ(read.parameter_count(), config_.parameter_count());
  EXPECT_EQ(read.kv_heads, 1);
  EXPECT_EQ(read.rope_theta, 100);
  EXPECT_EQ(read.norm_eps, 0.25);
  EXPECT_FALSE(read.tied_embeddings);
  expect_weights(
      *open_model(write("half.gguf", tiny_gguf(config_, weights_, true))));
}

TEST_F(ModelFiles, StoredRowsAreWhereTheyAreSaidToBe) {
  const auto model = open_model(write("m.gguf", tiny_gguf(config_, weights_)));
  const std::string q = "model.layers.1.self_attn.q_proj.weight";
  const StoredWeight stored = model->stored(q);
  EXPECT_EQ(stored.paired_rows, 4);
  EXPECT_EQ(stored.row_bytes(), 32U);
  for (std::int64_t row = 0; row < 8; ++row) {
    float first = 0;
    std::memcpy(&first, stored.bytes.data() + stored.stored_row(row) * 32, 4);
    EXPECT_EQ(first, weights_.at(q)[row * 8]) << row;
  }
  EXPECT_EQ(model->stored("model.layers.1.self_attn.v_proj.weight").paired_rows,
            0);
}

TEST_F(ModelFiles, ATiedHeadIsTheEmbedding) {
  config_.tied_embeddings = true;
  weights_ = tiny_weights(config_);
  const auto model = open_model(write("m.gguf", tiny_gguf(config_, weights_)));
  EXPECT_TRUE(model->config().decoder.tied_embeddings);
  EXPECT_FALSE(weights_.contains("lm_head.weight"));
  expect_weights(*model);
}

TEST_F(ModelFiles, HuggingFaceFoldersWholeAndInShards) {
  write_tiny_hf(folder_ / "one", config_, weights_, false);
  write_tiny_hf(folder_ / "two", config_, weights_, true);
  expect_weights(*open_model(folder_ / "one"));
  expect_weights(*open_model(folder_ / "two"));
}

TEST_F(ModelFiles, ACheckpointOfChapter3) {
  config_ = intro::decoder_config("nano-1m");
  weights_ = tiny_weights(config_);
  for (const char* step : {"run/step-000002", "run/step-000010"}) {
    const auto folder = folder_ / step;
    std::filesystem::create_directories(folder);
    CheckpointManifest manifest;
    manifest.metadata = {{"config.model", "nano-1m"}};
    std::vector<NamedTensor> tensors[2];
    // Each weight cut in two, as two ranks write it.
    for (const intro::ParameterShape& p : config_.parameters()) {
      const std::span<const float> values = weights_.at(p.name);
      const std::size_t half = values.size() / 2;
      const std::span<const float> parts[2] = {values.first(half),
                                               values.subspan(half)};
      for (int rank = 0; rank < 2; ++rank) {
        const auto bytes = std::as_bytes(parts[rank]);
        const std::string file = rank == 0 ? "0.safetensors" : "1.safetensors";
        manifest.add_shard("model." + p.name, Dtype::F32, p.shape, file,
                           rank == 0 ? 0 : static_cast<std::int64_t>(half),
                           bytes);
        tensors[rank].push_back(
            {"model." + p.name,
             Dtype::F32,
             {static_cast<std::int64_t>(parts[rank].size())},
             bytes});
      }
    }
    save_safetensors(folder / "0.safetensors", tensors[0]);
    save_safetensors(folder / "1.safetensors", tensors[1]);
    write_manifest(folder, manifest);
  }
  expect_weights(*open_model(folder_ / "run" / "step-000002"));
  const auto newest = open_model(folder_ / "run");
  expect_weights(*newest);
  EXPECT_THAT(newest->where(), HasSubstr("step-000010"));
}

TEST_F(ModelFiles, ReadingIntoTheWrongSizeIsAMistakeOfTheCaller) {
  const auto model = open_model(write("m.gguf", tiny_gguf(config_, weights_)));
  std::vector<float> values(7);
  EXPECT_THROW(model->read("model.norm.weight", values), std::invalid_argument);
  EXPECT_THROW(model->stored("model.norm.bias"), std::invalid_argument);
}

TEST_F(ModelFiles, WhatIsNotThatModelIsRefusedByName) {
  const auto with = [&](const std::function<void(GgufWriter&)>& change) {
    GgufWriter file = tiny_gguf(config_, weights_);
    change(file);
    return refusal(write("m.gguf", file));
  };
  EXPECT_THAT(with([](auto& f) { f.u32("llama.expert_count", 8); }),
              HasSubstr("has 8 experts"));
  EXPECT_THAT(with([](auto& f) { f.u32("llama.attention.key_length", 6); }),
              HasSubstr("llama.attention.key_length is 6"));
  EXPECT_THAT(with([](auto& f) { f.text("llama.rope.scaling.type", "yarn"); }),
              HasSubstr("type is \"yarn\""));
  EXPECT_THAT(with([](auto& f) {
                f.tensor("blk.0.attn_q.bias", {8}, 0, std::string(32, 0));
              }),
              HasSubstr("has a bias"));
  GgufWriter qwen;
  qwen.text("general.architecture", "qwen2");
  EXPECT_THAT(refusal(write("m.gguf", qwen)), HasSubstr("architecture"));
  EXPECT_THAT(refusal(folder_), HasSubstr("is no model"));
  EXPECT_THAT(refusal(folder_ / "none"), HasSubstr("none"));
}

TEST_F(ModelFiles, ConfigurationAndWeightsHaveToAgree) {
  write_tiny_hf(folder_ / "m", config_, weights_, false);
  const auto with = [&](const std::function<void(intro::DecoderConfig&)>& to) {
    intro::DecoderConfig config = config_;
    to(config);
    write_file_atomically(folder_ / "m" / "config.json",
                          tiny_config_json(config));
    return refusal(folder_ / "m");
  };
  EXPECT_THAT(with([](auto& c) { c.ffn = 16; }),
              HasSubstr("gate_proj.weight is [12, 8], its configuration asks "
                        "for [16, 8]"));
  EXPECT_THAT(with([](auto& c) { c.layers = 3; }), HasSubstr("layers.2."));
  EXPECT_THAT(with([](auto& c) { c.kv_heads = 0; }), HasSubstr("kv_heads 0"));
  EXPECT_THAT(with([](auto& c) { c.heads = 3; }), HasSubstr("no multiple of"));
  // Billions of layers are refused at the first that is not there.
  EXPECT_THAT(with([](auto& c) { c.layers = 1'000'000'000'000; }),
              HasSubstr("layers"));
}

TEST_F(ModelFiles, AnIndexStaysInItsFolder) {
  write_tiny_hf(folder_ / "m", config_, weights_, true);
  const auto index = folder_ / "m" / "model.safetensors.index.json";
  for (const char* file : {"../a.safetensors", "/etc/passwd", "..", ""}) {
    write_file_atomically(
        index, std::string(R"({"weight_map":{"w":")") + file + "\"}}");
    EXPECT_THAT(refusal(folder_ / "m"), HasSubstr("no file of this folder"));
  }
  write_file_atomically(index, R"({"weight_map":{"w":"a.safetensors"}})");
  EXPECT_THAT(refusal(folder_ / "m"), HasSubstr("does not list model.embed"));
}

TEST(HfConfig, WhatIsNotSupportedIsNamed) {
  const auto with = [](const std::string& member) {
    std::string json = tiny_config_json(tiny_config());
    json.replace(0, 1, "{" + member + ",");
    return message_of<UsageError>([&] { hf_model_config(json, "'c'"); });
  };
  EXPECT_THAT(with(R"("mlp_bias":true)"), StartsWith("'c': \"mlp_bias\" is"));
  EXPECT_THAT(with(R"("head_dim":6)"), HasSubstr("8 / 2 = 4 is supported"));
  EXPECT_THAT(with(R"("rope_parameters":{"rope_type":"yarn","factor":2})"),
              HasSubstr("rope type \"yarn\""));
  EXPECT_THAT(with(R"("rope_parameters":{"rope_type":"linear","factor":0})"),
              HasSubstr("factor of 0"));
  EXPECT_THAT(with(R"("rope_parameters":{"rope_type":"llama3","factor":8,
      "low_freq_factor":4,"high_freq_factor":1,
      "original_max_position_embeddings":32})"),
              HasSubstr("contradict"));
  EXPECT_THAT(message_of<UsageError>(
                  [] { hf_model_config(R"({"model_type":"bert"})", "'c'"); }),
              HasSubstr("type \"bert\""));
  EXPECT_THAT(message_of<UsageError>([] { hf_model_config("[]", "'c'"); }),
              StartsWith("'c': "));
}

TEST(RopeScaling, FromEveryForm) {
  std::string json = tiny_config_json(tiny_config());
  json.replace(0, 1, R"({"rope_parameters":{"rope_type":"linear","factor":4,
                         "rope_theta":500},)");
  const ModelConfig config = hf_model_config(json, "'c'");
  EXPECT_EQ(config.decoder.rope_theta, 500);
  EXPECT_THAT(config.rope_divisors, Each(4));
  EXPECT_EQ(config.rope_divisors.size(), 2U);

  GgufWriter file = tiny_gguf(tiny_config(), tiny_weights(tiny_config()));
  GgufBytes divisors;
  divisors.number(1.0F).number(8.0F);
  file.tensor("rope_freqs.weight", {2}, 0, divisors.text());
  const std::string bytes = file.bytes();
  EXPECT_THAT(
      gguf_model_config(GgufFile::parse(std::as_bytes(std::span(bytes)), "'f'"))
          .rope_divisors,
      ::testing::ElementsAre(1, 8));
}

// Llama 3.1's numbers: the rule's three regions, and where they meet.
TEST(RopeScaling, Llama3KeepsTheFastAndStretchesTheSlow) {
  const std::int64_t head_dim = 128;
  const std::vector<float> divisors =
      llama3_rope_divisors(Llama3Scaling{}, head_dim, 500000);
  ASSERT_EQ(divisors.size(), 64U);
  EXPECT_EQ(divisors.front(), 1);
  EXPECT_EQ(divisors.back(), 8);
  for (std::size_t i = 0; i < divisors.size(); ++i) {
    const double wavelength =
        2 * std::numbers::pi *
        std::pow(500000, 2.0 * static_cast<double>(i) / head_dim);
    const float least = wavelength > 8192.0 ? 8 : i == 0 ? 1 : divisors[i - 1];
    const float most = wavelength < 8192.0 / 4 ? 1 : 8;
    EXPECT_GE(divisors[i], least) << i;
    EXPECT_LE(divisors[i], most) << i;
  }
}

}  // namespace
}  // namespace dai::paged
