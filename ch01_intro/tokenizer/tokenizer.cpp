// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/tokenizer/tokenizer.h"

#include <fmt/format.h>

#include <limits>
#include <unordered_map>
#include <utility>

#include "ch01_intro/corpus/utf8.h"
#include "ch01_intro/tokenizer/added_tokens.h"
#include "ch01_intro/tokenizer/bpe_merges.h"
#include "ch01_intro/tokenizer/byte_alphabet.h"
#include "ch01_intro/tokenizer/unicode.h"
#include "common/strict_json.h"

namespace dai::intro {
namespace {

// Ids of the words seen in one call, so that merging happens once a word.
// Bounded, as texts are not.
class WordCache {
 public:
  explicit WordCache(const BpeMerges& merges) : merges_(merges) {}

  void append(std::string_view word, std::vector<std::int32_t>& ids) {
    if (word.size() > kLongestWord) return merges_.append_word(word, ids);
    std::int32_t index = words_.find(word);
    if (index < 0) {
      if (words_.size() == kMostWords) return merges_.append_word(word, ids);
      index = words_.find_or_add(word).first;
      merges_.append_word(word, ids_);
      ends_.push_back(ids_.size());
    }
    const std::size_t begin = index == 0 ? 0 : ends_[index - 1];
    ids.insert(ids.end(), ids_.begin() + begin, ids_.begin() + ends_[index]);
  }

 private:
  static constexpr std::size_t kLongestWord = 256;
  static constexpr std::size_t kMostWords = std::size_t{1} << 20;
  const BpeMerges& merges_;
  WordTable words_;
  std::vector<std::int32_t> ids_;
  std::vector<std::size_t> ends_;
};

}  // namespace

struct Tokenizer::State {
  State(TokenizerParts given, std::string_view where)
      : parts(std::move(given)),
        merges(parts, where),
        words(parts.pre_tokenizer) {
    take_vocab(where);
    take_added_tokens(where);
    for (const auto* list : {&parts.prefix_ids, &parts.suffix_ids}) {
      for (const std::int32_t id : *list) {
        if (!has(id)) refuse(where, "post_processor: no token has id {}", id);
      }
    }
  }

  void take_vocab(std::string_view where) {
    constexpr auto kMost = std::numeric_limits<std::int32_t>::max();
    if (std::cmp_greater(parts.vocab.size(), kMost)) {
      refuse(where, "vocab: {} ids, {} at most", parts.vocab.size(), kMost);
    }
    for (const std::string& token : parts.vocab) {
      if (!is_utf8(token)) {
        refuse(where, "vocab: {} (id {}) is not UTF-8", printable(token),
               tokens.size());
      }
      tokens.push_back(token);
      pieces.push_back(token_to_bytes(token));
    }
    special.resize(tokens.size());
  }

  void take_added_tokens(std::string_view where) {
    std::vector<AddedToken> passes[2];
    for (const AddedToken& token : parts.added_tokens) {
      const auto& [content, id, is_special, lstrip, rstrip, normalized] = token;
      if (content.empty() || !is_utf8(content)) {
        refuse(where, "added_tokens: {} (id {}) is {}", printable(content), id,
               content.empty() ? "empty" : "not UTF-8");
      }
      if (id < 0 || std::cmp_greater(id, tokens.size() + kFarthestGap)) {
        refuse(where, "added_tokens: {} has id {}, out of range",
               printable(content), id);
      }
      const auto before = find(content);
      if (before && *before != id) {
        refuse(where, "added_tokens: {} is both id {} and id {}",
               printable(content), *before, id);
      }
      if (!before && has(id)) {
        refuse(where, "added_tokens: id {} is both {} and {}", id,
               printable(tokens[id]), printable(content));
      }
      if (!added_ids.emplace(content, id).second) {
        refuse(where, "added_tokens: {} occurs twice", printable(content));
      }
      if (std::cmp_greater_equal(id, tokens.size())) {
        tokens.resize(id + 1);
        pieces.resize(id + 1);
        special.resize(id + 1);
      }
      tokens[id] = content;
      pieces[id] = token_to_bytes(content);
      special[id] = is_special;
      passes[normalized ? 1 : 0].push_back(token);
    }
    verbatim = AddedTokenMatcher(std::move(passes[0]));
    normalized = AddedTokenMatcher(std::move(passes[1]));
  }

  bool has(std::int32_t id) const {
    return id >= 0 && std::cmp_less(id, tokens.size()) && !tokens[id].empty();
  }
  void check(std::int32_t id) const {
    if (has(id)) return;
    throw UsageError(
        fmt::format("token id {} is not in the vocabulary (0 to {})", id,
                    static_cast<std::int64_t>(tokens.size()) - 1));
  }
  std::optional<std::int32_t> find(std::string_view token) const {
    if (const auto added = added_ids.find(std::string(token));
        added != added_ids.end()) {
      return added->second;
    }
    const std::int32_t id = merges.find(token);
    return id < 0 ? std::nullopt : std::optional(id);
  }

  // Ids between vocabulary and added tokens that may stay unused.
  static constexpr std::size_t kFarthestGap = 1 << 20;

  TokenizerParts parts;
  BpeMerges merges;
  PreTokenizer words;
  AddedTokenMatcher verbatim, normalized;
  std::unordered_map<std::string, std::int32_t> added_ids;
  std::vector<std::string> tokens, pieces;  // [id]
  std::vector<bool> special;                // [id]
};

Tokenizer::Tokenizer(TokenizerParts parts, std::string_view where)
    : state_(std::make_unique<const State>(std::move(parts), where)) {}
Tokenizer::~Tokenizer() = default;
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;

std::vector<std::int32_t> Tokenizer::encode(
    std::string_view text, const EncodeOptions& options) const {
  const State& s = *state_;
  std::vector<std::int32_t> ids;
  ids.reserve(text.size() / 4 + 16);
  if (options.add_special_tokens) ids = s.parts.prefix_ids;
  WordCache cache(s.merges);
  const bool skip = !options.parse_special_tokens;
  const auto add_word = [&](std::string_view word) { cache.append(word, ids); };
  s.verbatim.split(text, skip, [&](std::string_view outer, std::int32_t token) {
    if (token >= 0) return ids.push_back(token);
    s.normalized.split(outer, skip,
                       [&](std::string_view inner, std::int32_t id) {
                         if (id >= 0) return ids.push_back(id);
                         s.words.for_each(inner, add_word);
                       });
  });
  if (options.add_special_tokens) {
    ids.insert(ids.end(), s.parts.suffix_ids.begin(), s.parts.suffix_ids.end());
  }
  return ids;
}

std::string Tokenizer::decode(std::span<const std::int32_t> ids,
                              bool skip_special_tokens) const {
  std::string bytes;
  for (const std::int32_t id : ids) {
    state_->check(id);
    if (skip_special_tokens && state_->special[id]) continue;
    bytes += state_->pieces[id];
  }
  return bytes;
}

std::int64_t Tokenizer::vocab_size() const {
  return static_cast<std::int64_t>(state_->tokens.size());
}

std::string_view Tokenizer::piece(std::int32_t id) const {
  state_->check(id);
  return state_->pieces[id];
}

bool Tokenizer::is_special(std::int32_t id) const {
  state_->check(id);
  return state_->special[id];
}

std::optional<std::int32_t> Tokenizer::token_to_id(
    std::string_view token) const {
  return state_->find(token);
}

const std::string& Tokenizer::id_to_token(std::int32_t id) const {
  state_->check(id);
  return state_->tokens[id];
}

const TokenizerParts& Tokenizer::parts() const {
  return state_->parts;
}

}  // namespace dai::intro
