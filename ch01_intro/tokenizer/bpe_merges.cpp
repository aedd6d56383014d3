// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/tokenizer/bpe_merges.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <queue>

#include "ch01_intro/tokenizer/byte_alphabet.h"
#include "common/strict_json.h"

namespace dai::intro {
namespace {

constexpr std::size_t kShortWord = 40;
constexpr std::int32_t kNever = std::numeric_limits<std::int32_t>::max();

}  // namespace

BpeMerges::BpeMerges(const TokenizerParts& parts, std::string_view where)
    : ignore_merges_(parts.ignore_merges) {
  for (std::size_t id = 0; id < parts.vocab.size(); ++id) {
    const std::string& token = parts.vocab[id];
    if (token.empty()) continue;
    const auto [index, added] = tokens_.find_or_add(token);
    if (!added) {
      refuse(where, "vocab: {} is both id {} and id {}", printable(token),
             token_ids_[index], id);
    }
    token_ids_.push_back(static_cast<std::int32_t>(id));
  }
  for (unsigned byte = 0; byte < 256; ++byte) {
    const char one = static_cast<char>(byte);
    byte_ids_[byte] = find(bytes_to_token({&one, 1}));
  }
  if (parts.unk_token) {
    unk_id_ = find(*parts.unk_token);
    if (unk_id_ < 0) {
      refuse(where, "unk_token: {} is not in the vocabulary",
             printable(*parts.unk_token));
    }
  }
  for (std::size_t rank = 0; rank < parts.merges.size(); ++rank) {
    const auto& [left, right] = parts.merges[rank];
    const auto known = [&](const std::string& token) {
      const std::int32_t id = token.empty() ? -1 : find(token);
      if (id < 0) {
        refuse(where, "merges[{}]: {} is not in the vocabulary", rank,
               printable(token));
      }
      return id;
    };
    const std::int32_t left_id = known(left), right_id = known(right);
    // A joined piece is longer than its parts: merges cannot run in a circle.
    joined_.push_back(known(left + right));
    const auto [before, added] = pairs_.find_or_add(left_id, right_id);
    if (!added) {
      refuse(where, "merges[{}] repeats merges[{}]: {} {}", rank, before,
             printable(left), printable(right));
    }
  }
}

std::int32_t BpeMerges::find(std::string_view token) const {
  const std::int32_t index = tokens_.find(token);
  return index < 0 ? -1 : token_ids_[index];
}

std::int32_t BpeMerges::id_of_byte(char byte) const {
  const std::int32_t id = byte_ids_[static_cast<std::uint8_t>(byte)];
  if (id >= 0) return id;
  if (unk_id_ >= 0) return unk_id_;
  throw UsageError(fmt::format(
      "cannot tokenize byte {:#04x}: the vocabulary has neither a piece for it "
      "nor an unk token",
      static_cast<std::uint8_t>(byte)));
}

void BpeMerges::append_word(std::string_view word,
                            std::vector<std::int32_t>& ids) const {
  if (ignore_merges_) {
    if (const std::int32_t id = find(bytes_to_token(word)); id >= 0) {
      ids.push_back(id);
      return;
    }
  }
  const std::size_t begin = ids.size();
  for (const char byte : word) ids.push_back(id_of_byte(byte));
  if (word.size() <= kShortWord) {
    join_short(ids, begin);
  } else {
    join_long(ids, begin);
  }
}

void BpeMerges::join_short(std::vector<std::int32_t>& ids,
                           std::size_t begin) const {
  std::size_t count = ids.size() - begin;
  std::int32_t* symbols = ids.data() + begin;
  // [i]: rank of the pair (i, i + 1); the last is a sentinel.
  std::array<std::int32_t, kShortWord + 1> ranks;
  const auto rank_at = [&](std::size_t i) {
    if (i + 1 >= count) return kNever;
    const std::int32_t rank = pairs_.find(symbols[i], symbols[i + 1]);
    return rank < 0 ? kNever : rank;
  };
  for (std::size_t i = 0; i < count; ++i) ranks[i] = rank_at(i);
  while (count > 1) {
    const auto best = std::min_element(ranks.begin(), ranks.begin() + count);
    if (*best == kNever) break;
    const std::size_t at = best - ranks.begin();
    symbols[at] = joined_[*best];
    std::copy(symbols + at + 2, symbols + count, symbols + at + 1);
    std::copy(ranks.begin() + at + 2, ranks.begin() + count,
              ranks.begin() + at + 1);
    --count;
    ranks[at] = rank_at(at);
    if (at > 0) ranks[at - 1] = rank_at(at - 1);
  }
  ids.resize(begin + count);
}

void BpeMerges::join_long(std::vector<std::int32_t>& ids,
                          std::size_t begin) const {
  struct Symbol {
    std::int32_t id;
    std::int32_t before, after;  // places of the neighbours, -1: none
  };
  struct Candidate {
    std::int32_t rank, place;
    bool operator>(const Candidate& other) const {
      return rank != other.rank ? rank > other.rank : place > other.place;
    }
  };
  const std::size_t count = ids.size() - begin;
  if (count > static_cast<std::size_t>(kNever)) {
    throw UsageError(fmt::format(
        "cannot tokenize a word of {} bytes: 2^31 - 1 at most", count));
  }
  std::vector<Symbol> symbols(count);
  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> queue;
  const auto consider = [&](std::int32_t place) {
    if (place < 0 || symbols[place].after < 0) return;
    const std::int32_t rank =
        pairs_.find(symbols[place].id, symbols[symbols[place].after].id);
    if (rank >= 0) queue.push({rank, place});
  };
  for (std::size_t i = 0; i < count; ++i) {
    const auto place = static_cast<std::int32_t>(i);
    symbols[i] = {ids[begin + i], place - 1, i + 1 < count ? place + 1 : -1};
  }
  for (std::size_t i = 0; i < count; ++i) {
    consider(static_cast<std::int32_t>(i));
  }
  while (!queue.empty()) {
    const auto [rank, place] = queue.top();
    queue.pop();
    // An entry outlives its pair when a neighbour was joined first.
    Symbol& left = symbols[place];
    if (left.id < 0 || left.after < 0) continue;
    Symbol& right = symbols[left.after];
    if (pairs_[rank] != std::pair(left.id, right.id)) continue;
    left.id = joined_[rank];
    left.after = right.after;
    right.id = -1;
    if (left.after >= 0) symbols[left.after].before = place;
    consider(left.before);
    consider(place);
  }
  ids.resize(begin);
  for (std::int32_t at = 0; at >= 0; at = symbols[at].after) {
    ids.push_back(symbols[at].id);
  }
}

}  // namespace dai::intro
