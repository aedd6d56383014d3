// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/tokenizer/text_corpus.h"

#include <utility>

#include "ch01_intro/corpus/english_text.h"
#include "ch01_intro/tokenizer/corpus_tokens.h"

namespace dai::intro {

TokenCorpus load_text_corpus(const TextCorpusOptions& options,
                             const std::string& cache_folder) {
  CorpusTokens tokens = cached_corpus_tokens(
      load_english_text(options.text, options.text_bytes),
      {.vocab_size = options.vocab_size, .max_text_bytes = options.text_bytes},
      cache_folder);
  return TokenCorpus(std::move(tokens.ids), {.vocab_size = options.vocab_size,
                                             .window = options.window,
                                             .seed = options.seed});
}

}  // namespace dai::intro
