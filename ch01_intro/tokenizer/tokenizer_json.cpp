// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/tokenizer/tokenizer_json.h"

#include <fmt/format.h>

#include <algorithm>
#include <initializer_list>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>

#include "ch01_intro/tokenizer/byte_alphabet.h"
#include "common/file.h"
#include "common/strict_json.h"

namespace dai::intro {
namespace {

using nlohmann::json;
using Step = PreTokenizerStep;

// One object of the file. Every member has to be asked for: done() refuses
// those that were not, so that nothing is ignored.
class Field {
 public:
  Field(const json& value, std::string name, std::string_view where)
      : value_(value), name_(std::move(name)), where_(where) {
    if (!value.is_object()) bad("an object");
    for (const auto& [key, ignored] : value.items()) unread_.push_back(key);
  }

  const json* find(const char* key) {
    std::erase(unread_, key);
    const auto member = value_.find(key);
    return member == value_.end() ? nullptr : &*member;
  }
  const json& get(const char* key) {
    const json* member = find(key);
    if (member == nullptr) refuse(where_, "{}: no \"{}\"", name_, key);
    return *member;
  }
  Field object(const char* key) { return {get(key), path(key), where_}; }
  std::string string(const char* key) {
    const json& member = get(key);
    if (!member.is_string()) wrong(key, "a string");
    return member.get<std::string>();
  }
  bool flag(const char* key, bool otherwise) {
    const json* member = find(key);
    if (member == nullptr) return otherwise;
    if (!member->is_boolean()) wrong(key, "true or false");
    return member->get<bool>();
  }
  std::int32_t id(const char* key) { return as_id(get(key), path(key)); }
  std::int32_t as_id(const json& value, const std::string& name) const {
    constexpr auto kMost = std::numeric_limits<std::int32_t>::max();
    if (!value.is_number_unsigned() ||
        value.get<std::uint64_t>() >= static_cast<std::uint64_t>(kMost)) {
      refuse(where_, "{}: {} is no token id", name, printable(value.dump()));
    }
    return value.get<std::int32_t>();
  }
  const json& list(const char* key) {
    const json& member = get(key);
    if (!member.is_array()) wrong(key, "a list");
    return member;
  }
  // Absent, null, or one of the values given.
  void want(const char* key, std::initializer_list<json> accepted) {
    const json* member = find(key);
    if (member == nullptr || member->is_null()) return;
    for (const json& value : accepted) {
      if (*member == value) return;
    }
    refuse(where_, "{}: {} is not supported", path(key),
           printable(member->dump()));
  }
  // For members that have no influence on ids or text.
  void skip(std::initializer_list<const char*> keys) {
    for (const char* key : keys) find(key);
  }
  void done() const {
    if (unread_.empty()) return;
    refuse(where_, "{}: \"{}\" is not supported", name_, unread_.front());
  }
  std::string path(const char* key) const {
    return name_.empty() ? key : name_ + "." + key;
  }
  [[noreturn]] void wrong(const char* key, std::string_view wanted) const {
    refuse(where_, "{}: holds {}, wanted {}", path(key),
           printable(value_.at(key).dump()), wanted);
  }
  [[noreturn]] void bad(std::string_view wanted) const {
    refuse(where_, "{}: holds {}, wanted {}", name_, printable(value_.dump()),
           wanted);
  }
  const std::string& name() const { return name_; }
  std::string_view where() const { return where_; }

 private:
  const json& value_;
  std::string name_;
  std::string_view where_;
  std::vector<std::string> unread_;
};

// The members of a Sequence, or the object itself.
std::vector<Field> sequence(Field field, const char* key) {
  if (field.string("type") != "Sequence") return {field};
  std::vector<Field> items;
  const json& list = field.list(key);
  field.done();
  for (std::size_t i = 0; i < list.size(); ++i) {
    items.emplace_back(list[i], fmt::format("{}[{}]", field.path(key), i),
                       field.where());
  }
  return items;
}

[[noreturn]] void refuse_type(Field& field, std::string_view accepted) {
  refuse(field.where(), "{}: {} is not supported, only {}", field.path("type"),
         printable(field.string("type")), accepted);
}

void read_vocab(Field& model, TokenizerParts& parts) {
  const json& vocab = model.get("vocab");
  if (!vocab.is_object()) model.wrong("vocab", "an object");
  // Ids may have holes, but not such that a small file asks for much memory.
  const std::size_t most = 2 * vocab.size() + (1 << 16);
  for (const auto& [token, value] : vocab.items()) {
    const std::int32_t id = model.as_id(value, "model.vocab");
    if (token.empty()) {
      refuse(model.where(), "model.vocab: the token with id {} is empty", id);
    }
    if (std::cmp_greater(id, most)) {
      refuse(model.where(), "model.vocab: {} has id {}, of {} tokens",
             printable(token), id, vocab.size());
    }
    if (std::cmp_greater_equal(id, parts.vocab.size())) {
      parts.vocab.resize(id + 1);
    }
    if (!parts.vocab[id].empty()) {
      refuse(model.where(), "model.vocab: id {} is both {} and {}", id,
             printable(parts.vocab[id]), printable(token));
    }
    parts.vocab[id] = token;
  }
}

void read_merges(Field& model, TokenizerParts& parts) {
  const json& merges = model.list("merges");
  for (std::size_t rank = 0; rank < merges.size(); ++rank) {
    const json& merge = merges[rank];
    if (merge.is_array() && merge.size() == 2 && merge[0].is_string() &&
        merge[1].is_string()) {
      parts.merges.emplace_back(merge[0], merge[1]);
      continue;
    }
    const std::string text = merge.is_string() ? merge.get<std::string>() : "";
    const auto space = text.find(' ');
    if (space == text.npos || text.find(' ', space + 1) != text.npos) {
      refuse(model.where(),
             "model.merges[{}]: holds {}, wanted two tokens with a space "
             "between or a list of them",
             rank, printable(merge.dump()));
    }
    parts.merges.emplace_back(text.substr(0, space), text.substr(space + 1));
  }
}

void read_model(Field model, TokenizerParts& parts) {
  // Files of 2019 have no type.
  model.want("type", {"BPE"});
  read_vocab(model, parts);
  read_merges(model, parts);
  model.want("dropout", {0.0});
  model.want("continuing_subword_prefix", {""});
  model.want("end_of_word_suffix", {""});
  model.want("byte_fallback", {false});
  parts.ignore_merges = model.flag("ignore_merges", false);
  if (const json* unk = model.find("unk_token"); unk && !unk->is_null()) {
    parts.unk_token = model.string("unk_token");
  }
  if (model.flag("fuse_unk", false) && parts.unk_token) {
    for (int byte = 0; byte < 256; ++byte) {
      const std::string token =
          bytes_to_token(std::string(1, static_cast<char>(byte)));
      if (std::find(parts.vocab.begin(), parts.vocab.end(), token) ==
          parts.vocab.end()) {
        refuse(model.where(),
               "model.fuse_unk: true is not supported where a byte has no "
               "piece");
      }
    }
  }
  model.done();
}

void read_split(Field& field, std::vector<Step>& steps) {
  Field pattern = field.object("pattern");
  Step step;
  const std::string expression = pattern.string("Regex");
  pattern.done();
  if (!find_pattern(expression, step.pattern)) {
    refuse(field.where(),
           "{}: {} is not supported; known are those of GPT-2, "
           "Llama 3 and Qwen2",
           field.path("pattern.Regex"), json(expression).dump());
  }
  // The patterns match everything: keeping the matches is isolating them.
  const std::string behavior = field.string("behavior");
  const bool invert = field.flag("invert", false);
  if (!(behavior == "Isolated" && !invert) &&
      !(behavior == "Removed" && invert)) {
    refuse(field.where(),
           "{}: {} with invert {} is not supported, only Isolated with false "
           "and Removed with true",
           field.path("behavior"), printable(behavior), invert);
  }
  steps.push_back(step);
}

std::vector<Step> read_pre_tokenizer(Field root) {
  constexpr auto kAccepted =
      "ByteLevel, Digits, Split and Sequence of these, ByteLevel last";
  std::vector<Step> steps;
  bool byte_level = false;
  for (Field& field : sequence(root, "pretokenizers")) {
    const std::string type = field.string("type");
    if (byte_level) refuse_type(field, kAccepted);
    if (type == "ByteLevel") {
      byte_level = true;
      if (field.flag("add_prefix_space", true)) {
        steps.push_back({Step::Kind::kPrefixSpace});
      }
      if (field.flag("use_regex", true)) {
        steps.push_back({Step::Kind::kPattern, WordPattern::kGpt2, true});
      }
      field.skip({"trim_offsets"});
    } else if (type == "Digits") {
      steps.push_back({field.flag("individual_digits", false)
                           ? Step::Kind::kDigits
                           : Step::Kind::kDigitRuns});
    } else if (type == "Split") {
      read_split(field, steps);
    } else {
      refuse_type(field, kAccepted);
    }
    field.done();
  }
  if (!byte_level) {
    refuse(root.where(),
           "pre_tokenizer: no ByteLevel in it, only byte-level "
           "BPE is supported");
  }
  return steps;
}

void read_template(Field& field, TokenizerParts& parts) {
  Field known = field.object("special_tokens");
  const json& items = field.list("single");
  field.skip({"pair"});  // texts are encoded one at a time
  bool text_seen = false;
  for (std::size_t i = 0; i < items.size(); ++i) {
    Field item(items[i], fmt::format("{}[{}]", field.path("single"), i),
               field.where());
    if (item.find("Sequence") != nullptr) {
      Field text = item.object("Sequence");
      text.want("id", {"A"});
      text.want("type_id", {0, 1});
      text.done();
      item.done();
      if (text_seen) {
        refuse(field.where(), "{}: the text twice is not supported",
               field.path("single"));
      }
      text_seen = true;
      continue;
    }
    Field token = item.object("SpecialToken");
    item.done();
    Field special = known.object(token.string("id").c_str());
    token.skip({"type_id"});
    token.done();
    special.skip({"id", "tokens"});
    for (const json& id : special.list("ids")) {
      (text_seen ? parts.suffix_ids : parts.prefix_ids)
          .push_back(special.as_id(id, special.path("ids")));
    }
    special.done();
  }
  if (!text_seen) {
    refuse(field.where(), "{}: the text is not in it", field.path("single"));
  }
}

void read_post_processor(const Field& root, TokenizerParts& parts) {
  bool template_seen = false;
  for (Field& field : sequence(root, "processors")) {
    const std::string type = field.string("type");
    if (type == "ByteLevel") {  // moves offsets, which we do not give
      field.skip({"add_prefix_space", "trim_offsets", "use_regex"});
    } else if (type == "TemplateProcessing" && !template_seen) {
      template_seen = true;
      read_template(field, parts);
    } else {
      refuse_type(field, "ByteLevel, one TemplateProcessing and Sequence");
    }
    field.done();
  }
}

void read_added_tokens(Field& root, TokenizerParts& parts) {
  const json& list = root.list("added_tokens");
  for (std::size_t i = 0; i < list.size(); ++i) {
    Field field(list[i], fmt::format("added_tokens[{}]", i), root.where());
    AddedToken token;
    token.id = field.id("id");
    token.content = field.string("content");
    token.special = field.flag("special", false);
    token.lstrip = field.flag("lstrip", false);
    token.rstrip = field.flag("rstrip", false);
    token.normalized = field.flag("normalized", !token.special);
    field.want("single_word", {false});
    field.done();
    parts.added_tokens.push_back(std::move(token));
  }
}

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

TokenizerParts parse_tokenizer_json(std::string_view text,
                                    std::string_view where) {
  const json file = parse_strict_json(text, where, 8);
  Field root(file, "", where);
  TokenizerParts parts;
  root.want("version", {"1.0"});
  root.want("truncation", {});
  root.want("padding", {});
  root.want("normalizer", {});
  read_model(root.object("model"), parts);
  read_added_tokens(root, parts);
  parts.pre_tokenizer = read_pre_tokenizer(root.object("pre_tokenizer"));
  if (const json* post = root.find("post_processor");
      post && !post->is_null()) {
    read_post_processor(root.object("post_processor"), parts);
  }
  Field decoder = root.object("decoder");
  if (decoder.string("type") != "ByteLevel") refuse_type(decoder, "ByteLevel");
  root.done();
  return parts;
}

Tokenizer load_tokenizer_json(const std::filesystem::path& path) {
  const std::string where = fmt::format("'{}'", path.string());
  return Tokenizer(parse_tokenizer_json(read_file(path), where), where);
}

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
