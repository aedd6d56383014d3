// SPDX-License-Identifier: Apache-2.0
#pragma once

// Cuts a text into the words inside which byte-level BPE merges. Published
// tokenizers describe the cut by a regular expression; there are few of them,
// so each is a scanner written by hand, chosen by the expression's exact text:
// no engine, linear time, and an expression that is not known is refused
// instead of nearly understood.
//
//   const PreTokenizer words(pre_tokenizer_steps("gpt-2"));
//   words.for_each("to be, or", [](std::string_view word) { ... });
//   // "to", " be", ",", " or"
//
// Steps follow each other, each cutting what the one before left, as in the
// `Sequence` of a tokenizer.json. The concatenation of the words is the text,
// except for the space that add_prefix_space puts before a piece.

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace dai::intro {

enum class WordPattern : std::uint8_t {
  kGpt2,    // GPT-2 and its relatives; also ByteLevel's own expression
  kLlama3,  // Llama 3, cl100k: digits in threes, newlines kept together
  kQwen2,   // the same with single digits
};

// The expression's text, and back; false where no scanner has it.
std::string_view pattern_text(WordPattern pattern);
bool find_pattern(std::string_view text, WordPattern& pattern);

struct PreTokenizerStep {
  enum class Kind : std::uint8_t {
    kPattern,      // cut at the matches of `pattern`
    kDigits,       // every number character alone
    kDigitRuns,    // runs of number characters alone
    kPrefixSpace,  // a space before each piece that begins with none
  };
  Kind kind = Kind::kPattern;
  WordPattern pattern = WordPattern::kGpt2;
  bool byte_level = false;  // written as ByteLevel, not as Split

  friend bool operator==(const PreTokenizerStep&,
                         const PreTokenizerStep&) = default;
};

// By the names that GGUF files use: "gpt-2", "llama-bpe", "qwen2", "smollm".
// Throws UsageError for another name.
std::vector<PreTokenizerStep> pre_tokenizer_steps(std::string_view name);

// A reference to something callable with a word; costs nothing to make.
class WordSink {
 public:
  template <class F>
    requires(!std::is_same_v<std::remove_cvref_t<F>, WordSink>)
  WordSink(F&& f)  // NOLINT(google-explicit-constructor)
      : object_(const_cast<void*>(static_cast<const void*>(std::addressof(f)))),
        call_([](void* object, std::string_view word) {
          (*static_cast<std::remove_reference_t<F>*>(object))(word);
        }) {}
  void operator()(std::string_view word) const { call_(object_, word); }

 private:
  void* object_;
  void (*call_)(void*, std::string_view);
};

class PreTokenizer {
 public:
  explicit PreTokenizer(std::vector<PreTokenizerStep> steps = {})
      : steps_(std::move(steps)) {}

  // In the text's order; a word is valid until `sink` returns. No words for an
  // empty text.
  void for_each(std::string_view text, WordSink sink) const;

  const std::vector<PreTokenizerStep>& steps() const { return steps_; }

 private:
  void run(std::size_t step, std::string_view text, WordSink sink) const;
  std::vector<PreTokenizerStep> steps_;
};

}  // namespace dai::intro
