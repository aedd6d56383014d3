// SPDX-License-Identifier: Apache-2.0
// Our tokenizer as a program, for tokenizer_equality_test.py to compare with
// Python's. Files of records: a length (4 bytes, little-endian), then as many
// bytes; ids are 4 bytes each.
//
//   tokenizer_probe encode TOKENIZER IN OUT [plain] [text-only]
//   tokenizer_probe decode TOKENIZER IN OUT [skip]
//   tokenizer_probe words TOKENIZER IN OUT   a line a word, byte alphabet
//   tokenizer_probe replace IN OUT         bytes to text with U+FFFD
//   tokenizer_probe train TEXT OUT VOCAB MIN_FREQUENCY PRE_TOKENIZER PREFIX
//                   [SPECIAL...]
//   tokenizer_probe rewrite TOKENIZER OUT
//
// Exit 1: streaming gave another text than the whole, or bytes did not come
// back; 2: a file that is refused, with the reason on stderr.
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <exception>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "ch01_intro/tokenizer/bpe_trainer.h"
#include "ch01_intro/tokenizer/byte_alphabet.h"
#include "ch01_intro/tokenizer/pre_tokenizer.h"
#include "ch01_intro/tokenizer/streaming_decoder.h"
#include "ch01_intro/tokenizer/tokenizer.h"
#include "ch01_intro/tokenizer/tokenizer_json.h"
#include "common/errors.h"
#include "common/file.h"

namespace {

using namespace dai::intro;
using Ids = std::vector<std::int32_t>;

void want(bool fine, const char* what) {
  if (!fine) throw std::runtime_error(what);
}

std::vector<std::string> read_records(const std::string& path) {
  const std::string file = dai::read_file(path);
  std::vector<std::string> records;
  for (std::size_t at = 0; at < file.size();) {
    std::uint32_t length = 0;
    want(at + 4 <= file.size(), "cut record");
    std::memcpy(&length, file.data() + at, 4);
    want(at + 4 + length <= file.size(), "cut record");
    records.push_back(file.substr(at + 4, length));
    at += 4 + length;
  }
  return records;
}

void append_record(std::string& file, const void* bytes, std::size_t count) {
  const auto length = static_cast<std::uint32_t>(count);
  file.append(reinterpret_cast<const char*>(&length), 4);
  file.append(static_cast<const char*>(bytes), count);
}

void encode(const std::vector<std::string>& words) {
  const Tokenizer tokenizer = load_tokenizer_json(words.at(1));
  EncodeOptions options;
  for (std::size_t i = 4; i < words.size(); ++i) {
    if (words[i] == "plain") options.add_special_tokens = false;
    if (words[i] == "text-only") options.parse_special_tokens = false;
  }
  std::string out;
  for (const std::string& text : read_records(words.at(2))) {
    const Ids ids = tokenizer.encode(text, options);
    append_record(out, ids.data(), 4 * ids.size());
  }
  dai::write_file_atomically(words.at(3), out);
}

void list_words(const std::vector<std::string>& words) {
  const PreTokenizer cut(
      load_tokenizer_json(words.at(1)).parts().pre_tokenizer);
  std::string out;
  for (const std::string& text : read_records(words.at(2))) {
    std::string lines;
    cut.for_each(text, [&](std::string_view word) {
      lines += bytes_to_token(word) + "\n";
    });
    append_record(out, lines.data(), lines.size());
  }
  dai::write_file_atomically(words.at(3), out);
}

void decode(const std::vector<std::string>& words) {
  const Tokenizer tokenizer = load_tokenizer_json(words.at(1));
  const bool skip = words.size() > 4;
  std::string out;
  for (const std::string& record : read_records(words.at(2))) {
    want(record.size() % 4 == 0, "cut id");
    Ids ids(record.size() / 4);
    if (!ids.empty()) std::memcpy(ids.data(), record.data(), record.size());
    const std::string text = replace_malformed(tokenizer.decode(ids, skip));
    StreamingDecoder decoder(tokenizer, skip);
    std::string streamed;
    for (const std::int32_t id : ids) streamed += decoder.push(id);
    streamed += decoder.finish();
    want(streamed == text, "ids streamed one by one give another text");
    append_record(out, text.data(), text.size());
  }
  dai::write_file_atomically(words.at(3), out);
}

void replace(const std::vector<std::string>& words) {
  std::string out;
  for (const std::string& bytes : read_records(words.at(1))) {
    const std::string text = replace_malformed(bytes);
    for (const std::size_t cut : {1, 2, 3, 5}) {
      Utf8Stream stream;
      std::string streamed;
      for (std::size_t at = 0; at < bytes.size(); at += cut) {
        streamed += stream.push(std::string_view(bytes).substr(at, cut));
      }
      streamed += stream.finish();
      want(streamed == text, "bytes in small parts give another text");
    }
    append_record(out, text.data(), text.size());
  }
  dai::write_file_atomically(words.at(2), out);
}

void train(const std::vector<std::string>& words) {
  TrainBpeOptions options;
  options.vocab_size = std::stoll(words.at(3));
  options.min_frequency = std::stoll(words.at(4));
  options.pre_tokenizer = words.at(5);
  options.add_prefix_space = words.at(6) == "1";
  options.special_tokens.assign(words.begin() + 7, words.end());
  const Tokenizer tokenizer(train_bpe(dai::read_file(words.at(1)), options),
                            "trained");
  save_tokenizer_json(tokenizer, words.at(2));
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> words(argv + 1, argv + argc);
  try {
    const std::string& verb = words.at(0);
    if (verb == "encode") {
      encode(words);
    } else if (verb == "words") {
      list_words(words);
    } else if (verb == "decode") {
      decode(words);
    } else if (verb == "replace") {
      replace(words);
    } else if (verb == "train") {
      train(words);
    } else if (verb == "rewrite") {
      save_tokenizer_json(load_tokenizer_json(words.at(1)), words.at(2));
    } else {
      throw dai::UsageError("no such verb");
    }
  } catch (const dai::UsageError& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return dai::kExitUsage;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return dai::kExitFailed;
  }
  return dai::kExitOk;
}
