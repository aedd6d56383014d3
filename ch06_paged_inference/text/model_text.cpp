// SPDX-License-Identifier: Apache-2.0
#include "ch06_paged_inference/text/model_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>
#include <string>
#include <system_error>
#include <utility>

#include "ch01_intro/corpus/english_text.h"
#include "ch01_intro/tokenizer/corpus_tokens.h"
#include "ch01_intro/tokenizer/tokenizer_json.h"
#include "ch06_paged_inference/model_file/checkpoint_model.h"
#include "common/file.h"
#include "common/fnv1a.h"
#include "common/strict_json.h"

namespace dai::paged {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

// llama.cpp's kinds of tokens.
enum TokenType : std::int64_t {
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,
  kUserDefined = 4,
  kUnused = 5,
  kByte = 6,
};

std::optional<std::int32_t> id_at(const GgufFile& file, const char* key,
                                  std::size_t vocab) {
  if (!file.has(key)) return std::nullopt;
  const std::int64_t id = file.count(key);
  if (std::cmp_greater_equal(id, vocab)) {
    refuse(file.where(), "{} is {}, the vocabulary has {} tokens", key, id,
           vocab);
  }
  return static_cast<std::int32_t>(id);
}

bool flag(const GgufFile& file, const char* key) {
  return file.has(key) && file.flag(key);
}

void add_stop(std::vector<std::int32_t>& ids, std::optional<std::int32_t> id) {
  if (id && std::find(ids.begin(), ids.end(), *id) == ids.end()) {
    ids.push_back(*id);
  }
}

std::string token_text(const intro::Tokenizer& tokenizer,
                       std::optional<std::int32_t> id) {
  return id ? tokenizer.id_to_token(*id) : std::string();
}

// A model is of use without its template: who wants to chat hears why not.
void set_chat(ModelText& text, std::string source, const std::string& where,
              ChatTokens tokens) {
  try {
    text.chat.emplace(std::move(source), where, std::move(tokens));
  } catch (const UsageError& error) {
    text.chat_error = error.what();
  }
}

ModelText gguf_text(const fs::path& path) {
  const GgufFile file = GgufFile::open(path);
  ModelText text{intro::Tokenizer(gguf_tokenizer_parts(file), file.where()),
                 {},
                 std::nullopt};
  const auto vocab = static_cast<std::size_t>(text.tokenizer.vocab_size());
  const auto bos = id_at(file, "tokenizer.ggml.bos_token_id", vocab);
  const auto eos = id_at(file, "tokenizer.ggml.eos_token_id", vocab);
  add_stop(text.stop_ids, eos);
  add_stop(text.stop_ids, id_at(file, "tokenizer.ggml.eot_token_id", vocab));
  if (file.has("tokenizer.chat_template")) {
    set_chat(
        text, std::string(file.text("tokenizer.chat_template")), file.where(),
        {token_text(text.tokenizer, bos), token_text(text.tokenizer, eos)});
  }
  return text;
}

// A file of a folder as JSON; an empty object where it is not there.
Json json_file(const fs::path& path) {
  if (!fs::exists(path)) return Json::object();
  const std::string where = fmt::format("'{}'", path.string());
  Json json = parse_strict_json(read_file(path), where, 32);
  if (!json.is_object()) refuse(where, "is no JSON object");
  return json;
}

// "<s>" or {"content": "<s>", ...}; empty where there is none.
std::string token_of(const Json& config, const char* key) {
  const auto found = config.find(key);
  if (found == config.end()) return {};
  if (found->is_string()) return found->get<std::string>();
  if (found->is_object() && found->contains("content") &&
      (*found)["content"].is_string()) {
    return (*found)["content"].get<std::string>();
  }
  return {};
}

std::string template_of(const fs::path& folder, const Json& config) {
  if (fs::exists(folder / "chat_template.jinja")) {
    return read_file(folder / "chat_template.jinja");
  }
  const auto found = config.find("chat_template");
  if (found == config.end()) return {};
  if (found->is_string()) return found->get<std::string>();
  if (!found->is_array()) return {};
  for (const Json& named : *found) {  // several, by name
    if (named.is_object() && named.value("name", Json()) == "default") {
      return get_string(named, "template", "tokenizer_config.json");
    }
  }
  return {};
}

ModelText folder_text(const fs::path& folder) {
  const std::string where = fmt::format("'{}'", folder.string());
  ModelText text{
      intro::load_tokenizer_json(folder / "tokenizer.json"), {}, std::nullopt};
  const Json config = json_file(folder / "tokenizer_config.json");
  const std::string eos = token_of(config, "eos_token");
  if (!eos.empty()) add_stop(text.stop_ids, text.tokenizer.token_to_id(eos));
  for (const char* name : {"generation_config.json", "config.json"}) {
    const Json json = json_file(folder / name);
    const auto ids = json.find("eos_token_id");
    if (ids == json.end() || ids->is_null()) continue;
    for (const Json& id : ids->is_array() ? *ids : Json::array({*ids})) {
      if (!id.is_number_unsigned() ||
          id.get<std::uint64_t>() >=
              static_cast<std::uint64_t>(text.tokenizer.vocab_size())) {
        refuse(where, "{}: eos_token_id {} is no token", name,
               printable(id.dump()));
      }
      add_stop(text.stop_ids, id.get<std::int32_t>());
    }
  }
  const std::string source = template_of(folder, config);
  if (!source.empty()) {
    set_chat(text, source, where, {token_of(config, "bos_token"), eos});
  }
  return text;
}

// The tokenizer that ch03_ddp_train had: learnt from the dictionary's
// beginning.
intro::Tokenizer learnt_tokenizer(const fs::path& folder,
                                  const fs::path& cache_folder) {
  const CheckpointModel model(folder);
  const Metadata& metadata = model.metadata();
  const auto text_bytes = metadata.find("config.text_bytes");
  const auto tokens = metadata.find("config.tokens");
  std::int64_t bytes = 0;
  if (text_bytes == metadata.end() || tokens == metadata.end() ||
      std::from_chars(text_bytes->second.data(),
                      text_bytes->second.data() + text_bytes->second.size(),
                      bytes)
              .ec != std::errc()) {
    refuse(model.where(),
           "has no tokenizer.json, nor has the folder around it");
  }
  intro::CorpusTokens corpus = intro::cached_corpus_tokens(
      intro::load_english_text("", bytes),
      {.vocab_size = model.config().decoder.vocab_size,
       .max_text_bytes = bytes},
      cache_folder);
  const std::string fingerprint = fmt::format(
      "{:016x}", fnv1a({reinterpret_cast<const char*>(corpus.ids.data()),
                        corpus.ids.size() * sizeof corpus.ids[0]}));
  if (fingerprint != tokens->second) {
    refuse(model.where(),
           "was trained on another text than the dictionary: its "
           "tokenizer.json belongs beside it");
  }
  return std::move(corpus.tokenizer);
}

ModelText checkpoint_text(const fs::path& folder,
                          const fs::path& cache_folder) {
  const fs::path own = folder / "tokenizer.json";
  const fs::path run =
      fs::absolute(folder).lexically_normal().parent_path() / "tokenizer.json";
  ModelText text{fs::exists(own)   ? intro::load_tokenizer_json(own)
                 : fs::exists(run) ? intro::load_tokenizer_json(run)
                                   : learnt_tokenizer(folder, cache_folder),
                 {},
                 std::nullopt};
  add_stop(text.stop_ids, text.tokenizer.token_to_id("<|endoftext|>"));
  return text;
}

}  // namespace

intro::TokenizerParts gguf_tokenizer_parts(const GgufFile& file) {
  const std::string_view model = file.text("tokenizer.ggml.model");
  if (model != "gpt2") {
    refuse(file.where(),
           "has a tokenizer of model {}, gpt2 (byte-level BPE) is supported",
           printable(model));
  }
  intro::TokenizerParts parts;
  const auto tokens = file.texts("tokenizer.ggml.tokens");
  std::vector<std::int64_t> types(tokens.size(), kNormal);
  if (file.has("tokenizer.ggml.token_type")) {
    types = file.integers("tokenizer.ggml.token_type");
  }
  if (types.size() != tokens.size()) {
    refuse(file.where(), "has {} tokens and {} token types", tokens.size(),
           types.size());
  }
  for (std::size_t id = 0; id < tokens.size(); ++id) {
    const bool added = types[id] == kControl || types[id] == kUserDefined ||
                       types[id] == kUnknown;
    parts.vocab.emplace_back(added ? "" : tokens[id]);
    if (added) {
      parts.added_tokens.push_back({.content = std::string(tokens[id]),
                                    .id = static_cast<std::int32_t>(id),
                                    .special = types[id] != kUserDefined});
    }
  }
  for (const std::string_view merge : file.texts("tokenizer.ggml.merges")) {
    // A piece may be a space's own sign but holds no space.
    const std::size_t space = merge.find(' ', 1);
    if (space == merge.npos) {
      refuse(file.where(), "has a merge without a space: {}", printable(merge));
    }
    parts.merges.emplace_back(merge.substr(0, space), merge.substr(space + 1));
  }
  const std::string_view pre = file.has("tokenizer.ggml.pre")
                                   ? file.text("tokenizer.ggml.pre")
                                   : "gpt-2";
  try {
    parts.pre_tokenizer = intro::pre_tokenizer_steps(pre);
  } catch (const UsageError& error) {
    refuse(file.where(), "{}", error.what());
  }
  parts.ignore_merges = pre == "llama-bpe";
  if (flag(file, "tokenizer.ggml.add_space_prefix")) {
    refuse(file.where(),
           "wants a space before every text, which byte-level "
           "BPE here does not support");
  }
  const auto around = [&](const char* wanted, const char* key,
                          std::vector<std::int32_t>& ids) {
    if (!flag(file, wanted)) return;
    if (const auto id = id_at(file, key, tokens.size())) ids.push_back(*id);
  };
  around("tokenizer.ggml.add_bos_token", "tokenizer.ggml.bos_token_id",
         parts.prefix_ids);
  around("tokenizer.ggml.add_eos_token", "tokenizer.ggml.eos_token_id",
         parts.suffix_ids);
  return parts;
}

ModelText open_model_text(const fs::path& path, const fs::path& cache_folder) {
  if (!fs::is_directory(path)) return gguf_text(path);
  if (fs::exists(path / "config.json")) return folder_text(path);
  return checkpoint_text(path, cache_folder);
}

}  // namespace dai::paged
