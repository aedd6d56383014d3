// SPDX-License-Identifier: Apache-2.0
#pragma once

// The tokenizer.json of Hugging Face's `tokenizers`, as far as byte-level BPE
// needs it, and nothing of it ignored: what is not supported is refused by the
// name of its field.
//
//   const Tokenizer tokenizer = load_tokenizer_json("tokenizer.json");
//   save_tokenizer_json(tokenizer, "out/tokenizer.json");
//
// Read:  model           BPE with vocab, merges ("a b" or ["a", "b"]),
//                        ignore_merges, unk_token, fuse_unk where every byte
//                        has a piece
//        pre_tokenizer   ByteLevel, Digits, Split (the patterns of
//                        pre_tokenizer.h), Sequence of these with one
//                        ByteLevel, the last
//        added_tokens    special, lstrip, rstrip, normalized
//        post_processor  none, ByteLevel, TemplateProcessing whose `single` is
//                        special tokens around the text, Sequence of these
//        decoder         ByteLevel
// Refused: normalizers (also the NFC of Qwen2's published file), truncation,
//        padding, byte_fallback, dropout, single_word and the rest.
//
// Throws UsageError of one line that names file and field.

#include <filesystem>
#include <string>
#include <string_view>

#include "ch01_intro/tokenizer/tokenizer.h"

namespace dai::intro {

Tokenizer load_tokenizer_json(const std::filesystem::path& path);

TokenizerParts parse_tokenizer_json(std::string_view json,
                                    std::string_view where);

// Written atomically (common/file.h). The same parts give the same bytes.
void save_tokenizer_json(const Tokenizer& tokenizer,
                         const std::filesystem::path& path);

std::string tokenizer_json(const TokenizerParts& parts);

}  // namespace dai::intro
