// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/tokenizer/pre_tokenizer.h"

#include <fmt/format.h>

#include <array>
#include <utility>

#include "ch01_intro/tokenizer/unicode.h"
#include "common/errors.h"

namespace dai::intro {
namespace {

using Kind = CharacterKind;

constexpr std::array<std::pair<WordPattern, std::string_view>, 3> kPatterns = {{
    {WordPattern::kGpt2,
     R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|)"
     R"(\s+)"},
    {WordPattern::kLlama3,
     R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|)"
     R"( ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"},
    {WordPattern::kQwen2,
     R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|)"
     R"( ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"},
}};

std::size_t skip_kind(std::string_view text, std::size_t at, Kind kind,
                      std::size_t most = std::string_view::npos) {
  for (; at < text.size() && most > 0; --most) {
    const Character c = character_at(text, at);
    if (c.kind != kind) break;
    at += c.bytes;
  }
  return at;
}

bool is_line_end(char c) {
  return c == '\r' || c == '\n';
}

std::size_t skip_line_ends(std::string_view text, std::size_t at) {
  while (at < text.size() && is_line_end(text[at])) ++at;
  return at;
}

// 's 't 're 've 'm 'll 'd at text[at] == '\'': the bytes, or 0. Without case,
// the long s (U+017F) is an s as well: it folds to one.
std::size_t contraction(std::string_view text, std::size_t at, bool any_case) {
  const auto letter = [&](std::size_t i) {
    const char c = at + i < text.size() ? text[at + i] : '\0';
    return any_case && c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  };
  const char first = letter(1);
  if (first == 's' || first == 't' || first == 'm' || first == 'd') return 2;
  const char second = letter(2);
  if ((first == 'r' || first == 'v') && second == 'e') return 3;
  if (first == 'l' && second == 'l') return 3;
  if (any_case && text.substr(at + 1).starts_with("\xc5\xbf")) return 3;
  return 0;
}

// \s+(?!\S)|\s+ at white space that ends at `end`: the last character is left
// for the word behind it, unless it is the only one or nothing follows.
std::size_t white_space(std::string_view text, std::size_t at,
                        std::size_t end) {
  if (end == text.size()) return end;
  std::size_t last = end - 1;
  while ((text[last] & 0xc0) == 0x80) --last;
  return last == at ? end : last;
}

std::size_t gpt2_word(std::string_view text, std::size_t at) {
  if (text[at] == '\'') {
    if (const std::size_t n = contraction(text, at, false)) return at + n;
  }
  // One space goes with the letters, digits or signs behind it.
  std::size_t begin = at;
  if (text[at] == ' ' && at + 1 < text.size()) ++begin;
  const Character c = character_at(text, begin);
  if (c.kind != Kind::kSpace) {
    return skip_kind(text, begin + c.bytes, c.kind);
  }
  return white_space(text, at, skip_kind(text, at, Kind::kSpace));
}

std::size_t llama3_word(std::string_view text, std::size_t at,
                        std::size_t digits) {
  if (text[at] == '\'') {
    if (const std::size_t n = contraction(text, at, true)) return at + n;
  }
  const Character c = character_at(text, at);
  const std::size_t next = at + c.bytes;
  if (c.kind == Kind::kLetter) return skip_kind(text, next, Kind::kLetter);
  if (c.kind == Kind::kNumber) {
    return skip_kind(text, next, Kind::kNumber, digits - 1);
  }
  const Kind next_kind =
      next < text.size() ? character_at(text, next).kind : Kind::kSpace;
  // Any sign or white space but a line end goes with the letters behind it.
  if (!is_line_end(text[at]) && next_kind == Kind::kLetter) {
    return skip_kind(text, next, Kind::kLetter);
  }
  if (c.kind == Kind::kOther ||
      (text[at] == ' ' && next_kind == Kind::kOther)) {
    return skip_line_ends(text, skip_kind(text, next, Kind::kOther));
  }
  // White space up to its last line end, or as in GPT-2 where it has none.
  const std::size_t end = skip_kind(text, at, Kind::kSpace);
  for (std::size_t i = end; i-- > at;) {
    if (is_line_end(text[i])) return i + 1;
  }
  return white_space(text, at, end);
}

std::size_t word_end(WordPattern pattern, std::string_view text,
                     std::size_t at) {
  if (pattern == WordPattern::kGpt2) return gpt2_word(text, at);
  return llama3_word(text, at, pattern == WordPattern::kLlama3 ? 3 : 1);
}

// The piece that begins at `at`: numbers alone or in runs, the rest in runs.
std::size_t digit_piece_end(std::string_view text, std::size_t at,
                            bool single) {
  const Character first = character_at(text, at);
  const bool number = is_digit_step_number(first);
  at += first.bytes;
  if (number && single) return at;
  while (at < text.size()) {
    const Character c = character_at(text, at);
    if (is_digit_step_number(c) != number) break;
    at += c.bytes;
  }
  return at;
}

}  // namespace

std::string_view pattern_text(WordPattern pattern) {
  return kPatterns[static_cast<std::size_t>(pattern)].second;
}

bool find_pattern(std::string_view text, WordPattern& pattern) {
  for (const auto& [known, expression] : kPatterns) {
    if (text != expression) continue;
    pattern = known;
    return true;
  }
  return false;
}

std::vector<PreTokenizerStep> pre_tokenizer_steps(std::string_view name) {
  using Step = PreTokenizerStep;
  const Step gpt2{Step::Kind::kPattern, WordPattern::kGpt2, true};
  if (name == "gpt-2") return {gpt2};
  if (name == "llama-bpe") {
    return {{Step::Kind::kPattern, WordPattern::kLlama3}};
  }
  if (name == "qwen2") return {{Step::Kind::kPattern, WordPattern::kQwen2}};
  if (name == "smollm") return {{Step::Kind::kDigits}, gpt2};
  throw UsageError(fmt::format(
      "pre-tokenizer '{}' is not supported; known are gpt-2, llama-bpe, qwen2 "
      "and smollm",
      name));
}

void PreTokenizer::for_each(std::string_view text, WordSink sink) const {
  if (!text.empty()) run(0, text, sink);
}

void PreTokenizer::run(std::size_t step, std::string_view text,
                       WordSink sink) const {
  if (step == steps_.size()) return sink(text);
  const PreTokenizerStep& now = steps_[step];
  if (now.kind == PreTokenizerStep::Kind::kPrefixSpace) {
    if (text.starts_with(' ')) return run(step + 1, text, sink);
    return run(step + 1, std::string(" ").append(text), sink);
  }
  const bool last = step + 1 == steps_.size();
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end =
        now.kind == PreTokenizerStep::Kind::kPattern
            ? word_end(now.pattern, text, at)
            : digit_piece_end(text, at,
                              now.kind == PreTokenizerStep::Kind::kDigits);
    const std::string_view piece = text.substr(at, end - at);
    if (last) {
      sink(piece);
    } else {
      run(step + 1, piece, sink);
    }
    at = end;
  }
}

}  // namespace dai::intro
