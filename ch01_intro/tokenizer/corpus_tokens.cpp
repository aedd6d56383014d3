// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/tokenizer/corpus_tokens.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <utility>

#include "ch01_intro/tokenizer/bpe_trainer.h"
#include "ch01_intro/tokenizer/tokenizer_json.h"
#include "ch01_intro/tokenizer/word_table.h"
#include "common/errors.h"
#include "common/file.h"

namespace dai::intro {
namespace {

namespace fs = std::filesystem;

// Part of the key: raise it when training, encoding or the files change.
constexpr std::uint64_t kFormat = 1;
constexpr char kMagic[8] = {'D', 'A', 'I', 'I', 'D', 'S', '0', '1'};

struct Header {
  char magic[8];
  std::uint64_t key, json_hash, ids, bytes_per_id, ids_hash;
};

std::string_view chars_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::string_view first_bytes(std::string_view text, std::int64_t most) {
  if (most == 0 || std::cmp_less_equal(text.size(), most)) return text;
  auto end = static_cast<std::size_t>(most);
  while (end > 0 && (text[end] & 0xc0) == 0x80) --end;
  return text.substr(0, end);
}

// Held while one process trains; the kernel lets go when it dies. On a file
// system without locks every rank trains: slower, the same files.
class FileLock {
 public:
  explicit FileLock(const fs::path& path)
      : fd_(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666)) {
    while (fd_ >= 0 && ::flock(fd_, LOCK_EX) != 0 && errno == EINTR) {
    }
  }
  ~FileLock() {
    if (fd_ >= 0) ::close(fd_);
  }
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;

 private:
  int fd_;
};

class Cache {
 public:
  Cache(const fs::path& folder, std::uint64_t key)
      : key_(key),
        json_(folder / fmt::format("{:016x}.tokenizer.json", key)),
        ids_(folder / fmt::format("{:016x}.ids", key)),
        lock_(folder / fmt::format("{:016x}.lock", key)) {}

  const fs::path& lock() const { return lock_; }

  // Nothing where there is nothing, or where it is damaged.
  std::optional<CorpusTokens> read() const {
    if (!fs::exists(ids_) || !fs::exists(json_)) return std::nullopt;
    try {
      return read_checked();
    } catch (const UsageError& error) {
      spdlog::warn("{}: damaged, made anew ({})", ids_.string(), error.what());
      return std::nullopt;
    }
  }

  void write(const CorpusTokens& corpus) const {
    const std::string json = tokenizer_json(corpus.tokenizer.parts());
    // Half the bytes where ids are small, as they nearly always are.
    if (corpus.tokenizer.vocab_size() <= 1 << 16) {
      const std::vector<std::uint16_t> small(corpus.ids.begin(),
                                             corpus.ids.end());
      write_files(json, std::as_bytes(std::span(small)), 2);
    } else {
      write_files(json, std::as_bytes(std::span(corpus.ids)), 4);
    }
  }

 private:
  static void want(bool fine, const char* what) {
    if (!fine) throw UsageError(what);
  }

  CorpusTokens read_checked() const {
    const MappedFile file(ids_);
    Header header;
    want(file.bytes().size() >= sizeof header, "too short");
    std::memcpy(&header, file.bytes().data(), sizeof header);
    const auto ids = file.bytes().subspan(sizeof header);
    want(std::equal(kMagic, kMagic + 8, header.magic), "not such a file");
    want(header.key == key_, "another text's");
    want(header.bytes_per_id == 2 || header.bytes_per_id == 4, "bad header");
    want(ids.size() % header.bytes_per_id == 0 &&
             ids.size() / header.bytes_per_id == header.ids,
         "wrong length");
    want(hash_bytes(chars_of(ids), key_) == header.ids_hash, "wrong checksum");
    const std::string json = read_file(json_);
    want(hash_bytes(json, key_) == header.json_hash,
         "tokenizer.json has another checksum");
    CorpusTokens corpus{
        Tokenizer(parse_tokenizer_json(json, json_.string()), json_.string()),
        std::vector<std::int32_t>(header.ids), true};
    if (header.bytes_per_id == 4) {
      std::memcpy(corpus.ids.data(), ids.data(), ids.size());
    } else {
      const auto* small = reinterpret_cast<const std::uint16_t*>(ids.data());
      std::copy(small, small + header.ids, corpus.ids.begin());
    }
    return corpus;
  }

  // The ids last: they say which tokenizer.json belongs to them.
  void write_files(std::string_view json, std::span<const std::byte> ids,
                   std::uint64_t bytes_per_id) const {
    write_file_atomically(json_, json);
    Header header{{},
                  key_,
                  hash_bytes(json, key_),
                  ids.size() / bytes_per_id,
                  bytes_per_id,
                  hash_bytes(chars_of(ids), key_)};
    std::memcpy(header.magic, kMagic, sizeof kMagic);
    AtomicFile file(ids_);
    file.write(std::as_bytes(std::span(&header, 1)));
    file.write(ids);
    file.commit();
  }

  std::uint64_t key_;
  fs::path json_, ids_, lock_;
};

CorpusTokens make_tokens(std::string_view text,
                         const CorpusTokensOptions& options) {
  Tokenizer tokenizer(train_bpe(text, {.vocab_size = options.vocab_size,
                                       .special_tokens = {"<|endoftext|>"}}));
  std::vector<std::int32_t> ids = tokenizer.encode(text);
  return {std::move(tokenizer), std::move(ids), false};
}

}  // namespace

CorpusTokens cached_corpus_tokens(std::string_view text,
                                  const CorpusTokensOptions& options,
                                  const fs::path& cache_folder) {
  if (options.max_text_bytes < 0) {
    throw UsageError(fmt::format("max_text_bytes {}: 0 (all) or more",
                                 options.max_text_bytes));
  }
  text = first_bytes(text, options.max_text_bytes);
  if (text.empty()) throw UsageError("no text to learn a tokenizer from");
  if (cache_folder.empty()) return make_tokens(text, options);

  std::error_code error;
  fs::create_directories(cache_folder, error);
  if (error) {
    throw UsageError(fmt::format("cannot make the folder '{}': {}",
                                 cache_folder.string(), error.message()));
  }
  const std::uint64_t key = hash_bytes(
      text, kFormat << 32 ^ static_cast<std::uint64_t>(options.vocab_size));
  const Cache cache(cache_folder, key);
  if (auto found = cache.read()) return *std::move(found);
  const FileLock lock(cache.lock());
  // Another rank may have been quicker.
  if (auto found = cache.read()) return *std::move(found);
  CorpusTokens made = make_tokens(text, options);
  cache.write(made);
  return made;
}

}  // namespace dai::intro
