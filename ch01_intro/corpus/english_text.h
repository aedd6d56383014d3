// SPDX-License-Identifier: Apache-2.0
#pragma once

// Real English to learn from: the dictionary GCIDE (Webster 1913 with
// additions, some 30 MB) out of Debian's package dict-gcide, or any UTF-8 file
// of the reader's own. The dictionary is under the GPL: it is read where the
// package put it and never copied into this repository, nor is anything that
// was trained on it.
//
//   std::string text = load_english_text("");          // the package
//   std::string mine = load_english_text("book.txt");  // --text FILE
//
// The package holds a gzip file of entries and an index of (word, offset,
// length), the format of the DICT server dictd. Entries come out one a
// paragraph, in the file's order, without what only a printed dictionary
// needs:
//
//   Arrive \Ar*rive"\, v. t.            Arrive, v. t. 1. To bring to
//      1. To bring to shore. [Obs.]   ->  shore. [Obs.]
//         [1913 Webster]
//
// pronunciations, {braces} around references, source tags, line wrapping and
// the entries about the dictionary itself. Bytes that are not UTF-8 (three in
// version 0.48) become U+FFFD.
//
// Throws UsageError: a missing, damaged or foreign file, no regular one, one
// that is not UTF-8 (naming the byte's offset), holds a NUL, or is empty.

#include <cstdint>
#include <string>
#include <string_view>

namespace dai::intro {

inline constexpr const char* kGcideStem = "/usr/share/dictd/gcide";

// `path` empty: the dictionary. most > 0: no more of a file than so many bytes
// is read and judged, less a character that they cut in two.
std::string load_english_text(const std::string& path, std::int64_t most = 0);

// stem + ".dict.dz" and stem + ".index".
std::string load_dictionary_text(const std::string& stem);

// One entry, as it stands in the file, to one paragraph without a line end.
// Empty when nothing is left.
std::string paragraph_of_entry(std::string_view entry);

}  // namespace dai::intro
