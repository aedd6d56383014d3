// SPDX-License-Identifier: Apache-2.0
#pragma once

// From a text to training windows in one call, as the chapter's apps need it:
// the dictionary or the reader's own file, a tokenizer learnt from it, both
// kept in a folder, cut into windows.
//
//   TokenCorpus corpus = load_text_corpus(
//       {.text = options.text, .vocab_size = 4096, .window = 128},
//       app.cache_dir());
//
// Throws UsageError as english_text.h, corpus_tokens.h and token_corpus.h do.

#include <cstdint>
#include <string>

#include "ch01_intro/corpus/token_corpus.h"

namespace dai::intro {

struct TextCorpusOptions {
  std::string text;             // a UTF-8 file; empty: the dictionary
  std::int64_t text_bytes = 0;  // of its beginning; 0: all of it
  std::int64_t vocab_size = 0;  // of the tokenizer to be learnt
  std::int64_t window = 128;    // tokens
  std::uint64_t seed = 1234;    // of the windows' order
};

TokenCorpus load_text_corpus(const TextCorpusOptions& options,
                             const std::string& cache_folder);

}  // namespace dai::intro
