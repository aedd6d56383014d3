// SPDX-License-Identifier: Apache-2.0
#pragma once

// The two hash tables that tokenizing lives on, and their hash. Both only grow
// and number their keys 0, 1, 2 ... in the order of arrival.
//
//   WordTable words;
//   const auto [index, added] = words.find_or_add(" the");   // 0, true
//   PairTable pairs;
//   pairs.find_or_add(left_id, right_id);
//
// hash_bytes is no defence against someone who wants collisions; a collision
// only costs time, since keys are compared. Its value for given bytes is part
// of file formats (corpus_tokens.cpp): the same on every machine.

#include <bit>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <utility>
#include <vector>

namespace dai::intro {

inline std::uint64_t hash_bytes(std::string_view bytes,
                                std::uint64_t seed = 0) {
  constexpr std::uint64_t kOdd = 0x9e3779b97f4a7c15;
  std::uint64_t hash = (seed ^ bytes.size()) * kOdd;
  const auto mix = [&](std::uint64_t word) {
    hash = (hash ^ word) * kOdd;
    hash ^= hash >> 32;
  };
  std::size_t at = 0;
  for (; at + 8 <= bytes.size(); at += 8) {
    std::uint64_t word;
    std::memcpy(&word, bytes.data() + at, 8);
    if constexpr (std::endian::native == std::endian::big) {
      word = __builtin_bswap64(word);
    }
    mix(word);
  }
  std::uint64_t rest = 0;
  for (int shift = 0; at < bytes.size(); ++at, shift += 8) {
    rest |= std::uint64_t{static_cast<std::uint8_t>(bytes[at])} << shift;
  }
  mix(rest);
  mix(hash >> 29);
  return hash;
}

// Keys are numbers (the caller's index of what they stand for); equality is
// asked from the caller. Open addressing, at most half full.
class IndexTable {
 public:
  // `same(index)`: is that key equal to the one looked for? Returns its index,
  // or -1.
  template <class Same>
  std::int32_t find(std::uint64_t hash, const Same& same) const {
    if (slots_.empty()) return -1;
    const auto tag = static_cast<std::uint32_t>(hash >> 32);
    for (std::size_t at = hash & (slots_.size() - 1);;
         at = (at + 1) & (slots_.size() - 1)) {
      const Slot& slot = slots_[at];
      if (slot.index < 0) return -1;
      if (slot.tag == tag && same(slot.index)) return slot.index;
    }
  }
  // A key that is not there; its hash.
  void add(std::uint64_t hash, std::int32_t index) {
    if (2 * (size_ + 1) > slots_.size()) grow();
    put({static_cast<std::uint32_t>(hash >> 32),
         static_cast<std::uint32_t>(hash), index});
    ++size_;
  }

 private:
  struct Slot {
    std::uint32_t tag = 0, low = 0;
    std::int32_t index = -1;
  };
  void grow() {
    std::vector<Slot> old(slots_.empty() ? 64 : 2 * slots_.size());
    old.swap(slots_);
    for (const Slot& slot : old) {
      if (slot.index >= 0) put(slot);
    }
  }
  void put(const Slot& slot) {
    std::size_t at = slot.low & (slots_.size() - 1);
    while (slots_[at].index >= 0) at = (at + 1) & (slots_.size() - 1);
    slots_[at] = slot;
  }
  std::vector<Slot> slots_;
  std::size_t size_ = 0;
};

// Byte strings; owns copies of them.
class WordTable {
 public:
  std::pair<std::int32_t, bool> find_or_add(std::string_view word) {
    const std::uint64_t hash = hash_bytes(word);
    const std::int32_t found =
        table_.find(hash, [&](std::int32_t i) { return (*this)[i] == word; });
    if (found >= 0) return {found, false};
    const auto index = static_cast<std::int32_t>(ends_.size());
    bytes_.insert(bytes_.end(), word.begin(), word.end());
    ends_.push_back(bytes_.size());
    table_.add(hash, index);
    return {index, true};
  }
  std::int32_t find(std::string_view word) const {
    return table_.find(hash_bytes(word),
                       [&](std::int32_t i) { return (*this)[i] == word; });
  }
  std::size_t size() const { return ends_.size(); }
  std::string_view operator[](std::size_t index) const {
    const std::size_t begin = index == 0 ? 0 : ends_[index - 1];
    return {bytes_.data() + begin, ends_[index] - begin};
  }

 private:
  IndexTable table_;
  std::vector<char> bytes_;
  std::vector<std::size_t> ends_;
};

// Ordered pairs of ids.
class PairTable {
 public:
  std::pair<std::int32_t, bool> find_or_add(std::int32_t left,
                                            std::int32_t right) {
    const std::int32_t found = find(left, right);
    if (found >= 0) return {found, false};
    const auto index = static_cast<std::int32_t>(pairs_.size());
    pairs_.emplace_back(left, right);
    table_.add(hash(left, right), index);
    return {index, true};
  }
  std::int32_t find(std::int32_t left, std::int32_t right) const {
    return table_.find(hash(left, right), [&](std::int32_t i) {
      return pairs_[i] == std::pair(left, right);
    });
  }
  std::size_t size() const { return pairs_.size(); }
  std::pair<std::int32_t, std::int32_t> operator[](std::size_t index) const {
    return pairs_[index];
  }

 private:
  static std::uint64_t hash(std::int32_t left, std::int32_t right) {
    std::uint64_t key = std::uint64_t{static_cast<std::uint32_t>(left)} << 32 |
                        static_cast<std::uint32_t>(right);
    key = (key ^ key >> 32) * 0x9e3779b97f4a7c15;
    return key ^ key >> 29;
  }
  IndexTable table_;
  std::vector<std::pair<std::int32_t, std::int32_t>> pairs_;
};

}  // namespace dai::intro
