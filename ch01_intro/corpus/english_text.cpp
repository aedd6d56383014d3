// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/corpus/english_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <filesystem>
#include <set>
#include <system_error>
#include <utility>

#include "ch01_intro/corpus/utf8.h"
#include "ch01_intro/gzip_reader.h"
#include "common/errors.h"
#include "common/file.h"

namespace dai::intro {
namespace {

constexpr const char* kHint =
    "install the package dict-gcide or pass --text FILE";
constexpr std::size_t kMostBytes = std::size_t{1} << 30;

[[noreturn]] void bad_index(const std::string& path, std::size_t line,
                            const char* why) {
  throw UsageError(
      fmt::format("cannot use {}:{}: {}; {}", path, line, why, kHint));
}

// dictd writes numbers in base 64, most significant digit first.
bool parse_base64(std::string_view digits, std::uint64_t& number) {
  constexpr std::string_view kDigits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  number = 0;
  if (digits.empty() || digits.size() > 8) return false;
  for (const char digit : digits) {
    const auto value = kDigits.find(digit);
    if (value == kDigits.npos) return false;
    number = number * 64 + value;
  }
  return true;
}

struct Extent {
  std::uint64_t offset = 0;
  std::uint64_t length = 0;
  auto operator<=>(const Extent&) const = default;
};

// Many words point at one entry: a set, in the file's order.
std::set<Extent> read_index(const std::string& path, std::size_t text_bytes) {
  std::string index;
  try {
    index = read_file(path);
  } catch (const UsageError& error) {
    throw UsageError(fmt::format("{}; {}", error.what(), kHint));
  }
  std::set<Extent> extents;
  std::string_view rest = index;
  for (std::size_t line = 1; !rest.empty(); ++line) {
    const std::string_view row = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(row.size() + 1, rest.size()));
    const auto first = row.find('\t');
    const auto second = row.find('\t', first + 1);
    Extent extent;
    if (first == row.npos || second == row.npos ||
        !parse_base64(row.substr(first + 1, second - first - 1),
                      extent.offset) ||
        !parse_base64(row.substr(second + 1), extent.length)) {
      bad_index(path, line, "not a line of a dictd index");
    }
    if (extent.offset > text_bytes ||
        extent.length > text_bytes - extent.offset) {
      bad_index(path, line, "points behind the end of the dictionary");
    }
    if (!row.starts_with("00-")) extents.insert(extent);  // not about itself
  }
  return extents;
}

bool is_source_tag(std::string_view line) {
  constexpr std::array<std::string_view, 5> kSources = {
      "[1913 Webster", "[WordNet", "[Webster", "[PJC", "[Century Dict"};
  for (const auto source : kSources) {
    if (line.starts_with(source) && line.ends_with(']')) return true;
  }
  return false;
}

// A text that was cut off may end inside a character, after 3 bytes at most.
void drop_cut_character(std::string& text) {
  for (std::size_t tail = 1; tail <= std::min<std::size_t>(3, text.size());
       ++tail) {
    std::size_t cut = 0;
    well_formed_bytes(std::string_view(text).substr(text.size() - tail), &cut);
    if (cut == tail) {
      text.resize(text.size() - tail);
      return;
    }
  }
}

std::string_view trimmed(std::string_view line) {
  const auto first = line.find_first_not_of(" \t");
  if (first == line.npos) return {};
  return line.substr(first, line.find_last_not_of(" \t") - first + 1);
}

}  // namespace

std::string paragraph_of_entry(std::string_view entry) {
  std::string joined;
  while (!entry.empty()) {
    const std::string_view whole = entry.substr(0, entry.find('\n'));
    entry.remove_prefix(std::min(whole.size() + 1, entry.size()));
    const std::string_view line = trimmed(whole);
    if (line.empty() || is_source_tag(line)) continue;
    if (!joined.empty()) joined += ' ';
    joined += line;
  }
  // The pronunciation stands between backslashes, right behind the word.
  const auto open = joined.find('\\');
  const auto close = open == joined.npos ? open : joined.find('\\', open + 1);
  if (close != joined.npos) {
    const bool space_before = open > 0 && joined[open - 1] == ' ';
    joined.erase(open - (space_before ? 1 : 0),
                 close + 1 - open + (space_before ? 1 : 0));
  }
  std::string paragraph;
  for (const char c : joined) {
    if (c == '{' || c == '}') continue;
    if (c == ' ' && (paragraph.empty() || paragraph.back() == ' ')) continue;
    paragraph += c;
  }
  while (paragraph.ends_with(' ')) paragraph.pop_back();
  return paragraph;
}

std::string load_dictionary_text(const std::string& stem) {
  const std::string dictionary =
      GzipReader(stem + ".dict.dz", kHint).read_rest(kMostBytes);
  std::string text;
  for (const auto& [offset, length] :
       read_index(stem + ".index", dictionary.size())) {
    const std::string paragraph =
        paragraph_of_entry(std::string_view(dictionary).substr(offset, length));
    if (!paragraph.empty()) text += paragraph + "\n\n";
  }
  if (text.empty()) {
    throw UsageError(
        fmt::format("cannot use {}.index: it names no entry; {}", stem, kHint));
  }
  return replace_invalid_utf8(text);
}

std::string load_english_text(const std::string& path, std::int64_t most) {
  if (path.empty()) return load_dictionary_text(kGcideStem);
  std::error_code error;
  if (std::filesystem::exists(path, error) &&
      !std::filesystem::is_regular_file(path, error)) {
    throw UsageError(
        fmt::format("--text {}: a regular file is expected", path));
  }
  std::string text = read_file(
      path, most > 0 ? static_cast<std::size_t>(most) : std::string::npos);
  if (static_cast<std::int64_t>(text.size()) == most) drop_cut_character(text);
  if (text.empty()) {
    throw UsageError(fmt::format("--text {}: the file is empty", path));
  }
  const std::size_t bad = first_invalid_utf8(text);
  if (bad != std::string::npos) {
    throw UsageError(fmt::format(
        "--text {}: not UTF-8, the first wrong byte is {:#04x} at offset {}",
        path, static_cast<unsigned char>(text[bad]), bad));
  }
  if (const auto nul = text.find('\0'); nul != std::string::npos) {
    throw UsageError(fmt::format(
        "--text {}: a NUL at offset {}; text is expected", path, nul));
  }
  return text;
}

}  // namespace dai::intro
