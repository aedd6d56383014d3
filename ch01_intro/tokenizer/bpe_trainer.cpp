// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/tokenizer/bpe_trainer.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <queue>
#include <utility>

#include "ch01_intro/tokenizer/byte_alphabet.h"
#include "ch01_intro/tokenizer/unicode.h"
#include "ch01_intro/tokenizer/word_table.h"
#include "common/errors.h"

namespace dai::intro {
namespace {

using Words = std::vector<std::uint32_t>;  // ascending

// A pair and the words in which it was seen, as of when it was queued. Its
// count may have fallen since; joins at other places never raise it.
struct Candidate {
  std::int64_t count = 0;
  std::int32_t left = 0, right = 0;
  std::int32_t pair = 0;
  std::size_t words = 0;  // index into the lists

  bool operator<(const Candidate& other) const {  // is taken later than
    if (count != other.count) return count < other.count;
    return std::pair(left, right) > std::pair(other.left, other.right);
  }
};

class Trainer {
 public:
  explicit Trainer(const TrainBpeOptions& options) : options_(options) {
    for (const std::string& token : options_.special_tokens) {
      if (token.empty() || !add_token(token).second) {
        throw UsageError(
            fmt::format("special token '{}' {}", token,
                        token.empty() ? "is empty" : "is given twice"));
      }
    }
    auto alphabet = byte_alphabet();
    std::sort(alphabet.begin(), alphabet.end());
    for (const char32_t c : alphabet) {
      std::string token;
      append_utf8(c, token);
      // A special token may be a single character already.
      const std::int32_t id = add_token(token).first;
      byte_ids_[static_cast<std::uint8_t>((*alphabet_bytes(token))[0])] = id;
    }
    if (std::cmp_less(options_.vocab_size, tokens_.size())) {
      throw UsageError(fmt::format(
          "vocab_size {}: at least {} are needed, for 256 bytes and the "
          "special tokens",
          options_.vocab_size, tokens_.size()));
    }
  }

  void count_words(std::string_view text) {
    auto steps = pre_tokenizer_steps(options_.pre_tokenizer);
    if (options_.add_prefix_space) {
      // Where ByteLevel has it: before its own cut, behind the others'.
      steps.insert(steps.end() - (steps.back().byte_level ? 1 : 0),
                   {PreTokenizerStep::Kind::kPrefixSpace});
    }
    parts_.pre_tokenizer = steps;
    WordTable table;
    PreTokenizer(std::move(steps)).for_each(text, [&](std::string_view word) {
      const auto [index, added] = table.find_or_add(word);
      if (added) counts_.push_back(0);
      ++counts_[index];
    });
    for (std::size_t i = 0; i < table.size(); ++i) {
      begins_.push_back(symbols_.size());
      for (const char byte : table[i]) {
        symbols_.push_back(byte_ids_[static_cast<std::uint8_t>(byte)]);
      }
      lengths_.push_back(
          static_cast<std::uint32_t>(symbols_.size() - begins_.back()));
    }
  }

  void count_pairs() {
    for (std::uint32_t word = 0; word < counts_.size(); ++word) {
      const std::int32_t* symbols = &symbols_[begins_[word]];
      for (std::uint32_t i = 0; i + 1 < lengths_[word]; ++i) {
        change(symbols[i], symbols[i + 1], word, 1);
      }
    }
    queue_changed();
  }

  void learn() {
    while (std::cmp_less(tokens_.size(), options_.vocab_size) &&
           !queue_.empty()) {
      Candidate best = queue_.top();
      queue_.pop();
      const std::int64_t count = pair_counts_[best.pair];
      if (best.count != count) {  // fallen since: back into the line
        best.count = count;
        if (count > 0) queue_.push(best);
        continue;
      }
      if (count < std::max<std::int64_t>(options_.min_frequency, 1)) break;
      // Two pairs may spell one token: "ab" + "c" and "a" + "bc".
      const std::string left(tokens_[best.left]), right(tokens_[best.right]);
      const std::int32_t joined = add_token(left + right).first;
      merges_.emplace_back(best.pair, std::pair(left, right));
      for (const std::uint32_t word : std::exchange(lists_[best.words], {})) {
        join(word, best.left, best.right, joined);
      }
      free_lists_.push_back(best.words);
      queue_changed();
    }
  }

  TokenizerParts result() && {
    for (std::size_t id = 0; id < tokens_.size(); ++id) {
      parts_.vocab.emplace_back(tokens_[id]);
    }
    // A pair that was learnt twice counts where it was learnt last.
    std::vector<bool> seen(pairs_.size());
    for (std::size_t i = merges_.size(); i-- > 0;) {
      if (seen[merges_[i].first]) continue;
      seen[merges_[i].first] = true;
      parts_.merges.push_back(std::move(merges_[i].second));
    }
    std::reverse(parts_.merges.begin(), parts_.merges.end());
    for (const std::string& token : options_.special_tokens) {
      parts_.added_tokens.push_back({token, tokens_.find(token)});
    }
    return std::move(parts_);
  }

 private:
  std::pair<std::int32_t, bool> add_token(std::string_view token) {
    return tokens_.find_or_add(token);
  }

  // `sign` occurrences more of a pair in a word.
  void change(std::int32_t left, std::int32_t right, std::uint32_t word,
              std::int64_t sign) {
    const auto [pair, added] = pairs_.find_or_add(left, right);
    if (added) {
      pair_counts_.push_back(0);
      list_of_.push_back(kNone);
    }
    pair_counts_[pair] += sign * counts_[word];
    if (sign < 0) return;
    if (list_of_[pair] == kNone) {
      if (free_lists_.empty()) {
        free_lists_.push_back(lists_.size());
        lists_.emplace_back();
      }
      list_of_[pair] = free_lists_.back();
      free_lists_.pop_back();
      changed_.push_back(pair);
    }
    Words& words = lists_[list_of_[pair]];
    if (words.empty() || words.back() != word) words.push_back(word);
  }

  void queue_changed() {
    for (const std::int32_t pair : changed_) {
      const std::size_t list = std::exchange(list_of_[pair], kNone);
      const auto [left, right] = pairs_[pair];
      if (pair_counts_[pair] > 0) {
        queue_.push({pair_counts_[pair], left, right, pair, list});
      } else {
        lists_[list].clear();
        free_lists_.push_back(list);
      }
    }
    changed_.clear();
  }

  // Joins every left, right of a word. A pair overlapping the joined one goes,
  // one with the new token comes; the joined pair's own count is done with.
  void join(std::uint32_t word, std::int32_t left, std::int32_t right,
            std::int32_t joined) {
    std::int32_t* symbols = &symbols_[begins_[word]];
    const std::uint32_t length = lengths_[word];
    std::uint32_t to = 0;
    for (std::uint32_t from = 0; from < length; ++from, ++to) {
      symbols[to] = symbols[from];
      if (symbols[from] != left || from + 1 == length ||
          symbols[from + 1] != right) {
        continue;
      }
      symbols[to] = joined;
      if (to > 0) {
        change(symbols[to - 1], left, word, -1);
        change(symbols[to - 1], joined, word, 1);
      }
      ++from;
      if (from + 1 < length) {
        change(right, symbols[from + 1], word, -1);
        change(joined, symbols[from + 1], word, 1);
      }
    }
    lengths_[word] = to;
  }

  static constexpr std::size_t kNone = static_cast<std::size_t>(-1);

  TrainBpeOptions options_;
  TokenizerParts parts_;
  WordTable tokens_;  // [id], in the byte alphabet
  std::array<std::int32_t, 256> byte_ids_{};
  // The words, as symbols that shrink in place.
  std::vector<std::int64_t> counts_;
  std::vector<std::size_t> begins_;
  std::vector<std::uint32_t> lengths_;
  std::vector<std::int32_t> symbols_;
  PairTable pairs_;
  std::vector<std::int64_t> pair_counts_;  // [pair]
  std::vector<std::size_t> list_of_;       // [pair], while it is in changed_
  std::vector<std::int32_t> changed_;
  std::vector<Words> lists_;
  std::vector<std::size_t> free_lists_;
  std::priority_queue<Candidate> queue_;
  std::vector<std::pair<std::int32_t, std::pair<std::string, std::string>>>
      merges_;  // pair, tokens
};

}  // namespace

TokenizerParts train_bpe(std::string_view text,
                         const TrainBpeOptions& options) {
  Trainer trainer(options);
  trainer.count_words(text);
  trainer.count_pairs();
  trainer.learn();
  return std::move(trainer).result();
}

}  // namespace dai::intro
