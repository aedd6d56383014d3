// SPDX-License-Identifier: Apache-2.0
#pragma once

// A text's tokens under a tokenizer learnt from that text, kept on disk: every
// start of an app needs both, and nothing about them changes.
//
//   CorpusTokens corpus = cached_corpus_tokens(
//       load_english_text(""), {.vocab_size = 4096}, "build/cuda/out/tokens");
//   TokenCorpus batches(std::move(corpus.ids), {.vocab_size = 4096, ...});
//
// The folder (made where missing) gets <key>.tokenizer.json, which Python's
// `tokenizers` reads, and <key>.ids; the key is a hash of text, options and
// format version, so that another text or size is another pair of files. Both
// appear whole or not at all, carry checksums, and are made anew, with a
// warning, where these do not fit. Of several ranks that start at once, one
// works and the others wait for its files. An empty folder name: nothing kept.
//
// Text of the dictionary's size: a few seconds once, a tenth of one afterwards.
//
// Throws UsageError: options that train_bpe() refuses, an empty text, a
// folder that cannot be made or written.

#include <cstdint>
#include <filesystem>
#include <string_view>
#include <vector>

#include "ch01_intro/tokenizer/tokenizer.h"

namespace dai::intro {

struct CorpusTokensOptions {
  std::int64_t vocab_size = 4096;  // <|endoftext|> (id 0) included
  // Only the beginning of the text, cut at a character's end. 0: all of it.
  std::int64_t max_text_bytes = 0;
};

struct CorpusTokens {
  Tokenizer tokenizer;
  std::vector<std::int32_t> ids;  // a "<|endoftext|>" in the text is id 0
  bool from_cache = false;
};

CorpusTokens cached_corpus_tokens(std::string_view text,
                                  const CorpusTokensOptions& options,
                                  const std::filesystem::path& cache_folder);

}  // namespace dai::intro
