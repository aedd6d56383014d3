// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/tokenizer/added_tokens.h"

#include <algorithm>
#include <utility>

#include "ch01_intro/tokenizer/unicode.h"

namespace dai::intro {
namespace {

// Where the white space that ends at `end` begins, not before `floor`.
std::size_t space_before(std::string_view text, std::size_t end,
                         std::size_t floor) {
  while (end > floor) {
    std::size_t at = end - 1;
    while (at > floor && (text[at] & 0xc0) == 0x80) --at;
    const Character c = character_at(text, at);
    if (c.kind != CharacterKind::kSpace || at + c.bytes != end) break;
    end = at;
  }
  return end;
}

std::size_t space_behind(std::string_view text, std::size_t at) {
  while (at < text.size()) {
    const Character c = character_at(text, at);
    if (c.kind != CharacterKind::kSpace) break;
    at += c.bytes;
  }
  return at;
}

}  // namespace

AddedTokenMatcher::AddedTokenMatcher(std::vector<AddedToken> tokens)
    : tokens_(std::move(tokens)) {
  for (const AddedToken& token : tokens_) {
    contents_.find_or_add(token.content);
    lengths_[static_cast<std::uint8_t>(token.content[0])].push_back(
        token.content.size());
  }
  for (auto& lengths : lengths_) {
    std::sort(lengths.begin(), lengths.end(), std::greater<>());
    lengths.erase(std::unique(lengths.begin(), lengths.end()), lengths.end());
  }
}

const AddedToken* AddedTokenMatcher::longest_at(std::string_view text,
                                                std::size_t at) const {
  for (const std::size_t length :
       lengths_[static_cast<std::uint8_t>(text[at])]) {
    if (length > text.size() - at) continue;
    const std::int32_t index = contents_.find(text.substr(at, length));
    if (index >= 0) return &tokens_[index];
  }
  return nullptr;
}

void AddedTokenMatcher::split(std::string_view text, bool skip_special,
                              const Part& part) const {
  std::size_t done = 0;
  for (std::size_t at = 0; at < text.size() && !tokens_.empty();) {
    const AddedToken* token = longest_at(text, at);
    if (token == nullptr) {
      ++at;
      continue;
    }
    std::size_t begin = at;
    at += token->content.size();
    if (skip_special && token->special) continue;
    std::size_t end = at;
    if (token->lstrip) begin = space_before(text, begin, done);
    if (token->rstrip) end = space_behind(text, end);
    if (done < begin) part(text.substr(done, begin - done), -1);
    part(text.substr(begin, end - begin), token->id);
    done = std::max(done, end);
  }
  if (done < text.size()) part(text.substr(done), -1);
}

}  // namespace dai::intro
