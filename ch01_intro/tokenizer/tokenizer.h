// SPDX-License-Identifier: Apache-2.0
#pragma once

// Byte-level BPE (GPT-2, Llama 3, Qwen2, SmolLM2): text to token ids and back.
// Ids are those of Python's `tokenizers` with the same tokenizer.json.
//
//   const Tokenizer tokenizer = load_tokenizer_json("tokenizer.json");
//   std::vector<std::int32_t> ids = tokenizer.encode("Hello");
//   std::string bytes = tokenizer.decode(ids);
//
// encode() cuts added tokens out of the text (leftmost, then longest; those
// with `normalized` in a second pass), the rest into words (pre_tokenizer.h),
// and joins the bytes of each word by the merges, lowest rank first, leftmost
// among equals. n log n in the length of a word, and a word that occurs again
// in the same call is looked up: about linear in the text, whatever the text.
// The text may hold any bytes; those that are not UTF-8 come back as they were.
//
// A token has two forms: as files write it, in the byte alphabet ("\u0120the",
// byte_alphabet.h), and the bytes that it stands for (" the").
//
// const members may be called from several threads at once.
// Throws UsageError: parts that contradict each other (one line, beginning with
// `where`), a byte for which the vocabulary has no piece and no unk token, an
// id that is not in the vocabulary.

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ch01_intro/tokenizer/pre_tokenizer.h"

namespace dai::intro {

// A token that is found in the text as it stands, before any merging.
struct AddedToken {
  std::string content;
  std::int32_t id = 0;
  bool special = true;  // no part of the text: <|endoftext|>
  bool lstrip = false;  // takes white space before it along
  bool rstrip = false;  // and behind it
  bool normalized = false;
};

// All that a tokenizer is made of, as files hold it.
struct TokenizerParts {
  // [id] in the byte alphabet; empty: no such id (or an added token's).
  std::vector<std::string> vocab;
  std::vector<std::pair<std::string, std::string>> merges;  // by rank
  std::vector<PreTokenizerStep> pre_tokenizer;
  std::vector<AddedToken> added_tokens;
  std::vector<std::int32_t> prefix_ids;  // e.g. bos; see EncodeOptions
  std::vector<std::int32_t> suffix_ids;
  std::optional<std::string> unk_token;
  bool ignore_merges = false;  // a word that is a piece is that piece
};

struct EncodeOptions {
  bool add_special_tokens = true;    // prefix_ids and suffix_ids
  bool parse_special_tokens = true;  // false: they are text like any other
};

class Tokenizer {
 public:
  explicit Tokenizer(TokenizerParts parts,
                     std::string_view where = "tokenizer");
  ~Tokenizer();
  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;

  std::vector<std::int32_t> encode(std::string_view text,
                                   const EncodeOptions& options = {}) const;

  // The bytes: not always UTF-8, as a token may end inside a character
  // (streaming_decoder.h mends that).
  std::string decode(std::span<const std::int32_t> ids,
                     bool skip_special_tokens = false) const;

  // The largest id + 1: rows of an embedding table.
  std::int64_t vocab_size() const;
  // The bytes of one token.
  std::string_view piece(std::int32_t id) const;
  bool is_special(std::int32_t id) const;
  // By the form of the files, added tokens included.
  std::optional<std::int32_t> token_to_id(std::string_view token) const;
  const std::string& id_to_token(std::int32_t id) const;

  const TokenizerParts& parts() const;

 private:
  struct State;
  std::unique_ptr<const State> state_;
};

}  // namespace dai::intro
