// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "ch01_intro/tokenizer/tokenizer_json.h"
#include "common/file.h"

namespace dai::intro {
namespace {

using nlohmann::json;
using Step = PreTokenizerStep;

json byte_level_json(const char* type, bool prefix_space, bool use_regex) {
  return {{"type", type},
          {"add_prefix_space", prefix_space},
          {"trim_offsets", true},
          {"use_regex", use_regex}};
}

json pre_tokenizer_json(const std::vector<Step>& steps) {
  json items = json::array();
  bool prefix_space = false, written = false;
  for (const Step& step : steps) {
    if (step.kind == Step::Kind::kPrefixSpace) {
      prefix_space = true;
    } else if (step.kind != Step::Kind::kPattern) {
      items.push_back(
          {{"type", "Digits"},
           {"individual_digits", step.kind == Step::Kind::kDigits}});
    } else if (step.byte_level) {
      items.push_back(byte_level_json("ByteLevel", prefix_space, true));
      written = true;
    } else {
      items.push_back({{"type", "Split"},
                       {"pattern", {{"Regex", pattern_text(step.pattern)}}},
                       {"behavior", "Isolated"},
                       {"invert", false}});
    }
  }
  if (!written) {
    items.push_back(byte_level_json("ByteLevel", prefix_space, false));
  }
  if (items.size() == 1) return items[0];
  return {{"type", "Sequence"}, {"pretokenizers", items}};
}

json post_processor_json(const TokenizerParts& parts,
                         const std::vector<std::string>& tokens) {
  json byte_level = byte_level_json("ByteLevel", false, true);
  if (parts.prefix_ids.empty() && parts.suffix_ids.empty()) return byte_level;
  json single = json::array(), special = json::object();
  const auto add = [&](const std::vector<std::int32_t>& ids) {
    for (const std::int32_t id : ids) {
      single.push_back(
          {{"SpecialToken", {{"id", tokens[id]}, {"type_id", 0}}}});
      special[tokens[id]] = {
          {"id", tokens[id]}, {"ids", {id}}, {"tokens", {tokens[id]}}};
    }
  };
  add(parts.prefix_ids);
  const json text = {{"Sequence", {{"id", "A"}, {"type_id", 0}}}};
  single.push_back(text);
  add(parts.suffix_ids);
  json pair = single;
  pair.push_back({{"Sequence", {{"id", "B"}, {"type_id", 1}}}});
  const json processor = {{"type", "TemplateProcessing"},
                          {"single", single},
                          {"pair", pair},
                          {"special_tokens", special}};
  return {{"type", "Sequence"}, {"processors", {byte_level, processor}}};
}

}  // namespace

std::string tokenizer_json(const TokenizerParts& parts) {
  std::vector<std::string> tokens = parts.vocab;
  json added = json::array();
  for (const AddedToken& token : parts.added_tokens) {
    if (std::cmp_greater_equal(token.id, tokens.size())) {
      tokens.resize(token.id + 1);
    }
    tokens[token.id] = token.content;
    added.push_back({{"id", token.id},
                     {"content", token.content},
                     {"single_word", false},
                     {"lstrip", token.lstrip},
                     {"rstrip", token.rstrip},
                     {"normalized", token.normalized},
                     {"special", token.special}});
  }
  // Vocabulary and merges by hand, in the order of ids: a json object sorts.
  std::string vocab, merges;
  for (std::size_t id = 0; id < parts.vocab.size(); ++id) {
    if (parts.vocab[id].empty()) continue;
    vocab += fmt::format("{}      {}: {}", vocab.empty() ? "" : ",\n",
                         json(parts.vocab[id]).dump(), id);
  }
  for (const auto& [left, right] : parts.merges) {
    merges += fmt::format("{}      [{}, {}]", merges.empty() ? "" : ",\n",
                          json(left).dump(), json(right).dump());
  }
  const json unk = parts.unk_token ? json(*parts.unk_token) : json();
  return fmt::format(
      "{{\n  \"version\": \"1.0\",\n  \"truncation\": null,\n"
      "  \"padding\": null,\n  \"added_tokens\": {},\n"
      "  \"normalizer\": null,\n  \"pre_tokenizer\": {},\n"
      "  \"post_processor\": {},\n  \"decoder\": {},\n"
      "  \"model\": {{\n    \"type\": \"BPE\",\n    \"dropout\": null,\n"
      "    \"unk_token\": {},\n    \"continuing_subword_prefix\": null,\n"
      "    \"end_of_word_suffix\": null,\n    \"fuse_unk\": false,\n"
      "    \"byte_fallback\": false,\n    \"ignore_merges\": {},\n"
      "    \"vocab\": {{\n{}\n    }},\n    \"merges\": [\n{}\n    ]\n  "
      "}}\n}}\n",
      added.dump(), pre_tokenizer_json(parts.pre_tokenizer).dump(),
      post_processor_json(parts, tokens).dump(),
      byte_level_json("ByteLevel", false, true).dump(), unk.dump(),
      parts.ignore_merges, vocab, merges);
}

void save_tokenizer_json(const Tokenizer& tokenizer,
                         const std::filesystem::path& path) {
  write_file_atomically(path, tokenizer_json(tokenizer.parts()));
}

}  // namespace dai::intro
