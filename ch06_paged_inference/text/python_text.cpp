// SPDX-License-Identifier: Apache-2.0
#include "ch06_paged_inference/text/python_text.h"

#include <algorithm>
#include <array>
#include <utility>

#include "common/errors.h"

namespace dai::paged {
namespace {

// What str.strip() and str.split() take for white space.
constexpr std::string_view kSpaces = " \t\n\r\v\f\x1c\x1d\x1e\x1f";
constexpr std::array<std::string_view, 19> kWideSpaces{
    "\xc2\x85",     "\xc2\xa0",     "\xe1\x9a\x80", "\xe2\x80\x80",
    "\xe2\x80\x81", "\xe2\x80\x82", "\xe2\x80\x83", "\xe2\x80\x84",
    "\xe2\x80\x85", "\xe2\x80\x86", "\xe2\x80\x87", "\xe2\x80\x88",
    "\xe2\x80\x89", "\xe2\x80\x8a", "\xe2\x80\xa8", "\xe2\x80\xa9",
    "\xe2\x80\xaf", "\xe2\x81\x9f", "\xe3\x80\x80"};

std::size_t space_at_begin(std::string_view s) {
  if (!s.empty() && kSpaces.find(s[0]) != kSpaces.npos) return 1;
  for (const std::string_view wide : kWideSpaces) {
    if (s.starts_with(wide)) return wide.size();
  }
  return 0;
}
std::size_t space_at_end(std::string_view s) {
  if (!s.empty() && kSpaces.find(s.back()) != kSpaces.npos) return 1;
  for (const std::string_view wide : kWideSpaces) {
    if (s.ends_with(wide)) return wide.size();
  }
  return 0;
}

}  // namespace

char lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
}
char upper(char c) {
  return c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : c;
}

MarkedText strip(const MarkedText& text, bool left, bool right,
                 std::string_view characters) {
  std::string_view s = text.text();
  const auto listed = [&](char c) -> std::size_t {
    return characters.find(c) != characters.npos ? 1 : 0;
  };
  std::size_t begin = 0;
  while (left && !s.empty()) {
    const std::size_t n = characters.empty() ? space_at_begin(s) : listed(s[0]);
    if (n == 0) break;
    s.remove_prefix(n);
    begin += n;
  }
  while (right && !s.empty()) {
    const std::size_t n =
        characters.empty() ? space_at_end(s) : listed(s.back());
    if (n == 0) break;
    s.remove_suffix(n);
  }
  return text.substr(begin, s.size());
}

MarkedText title(const MarkedText& text, bool every_word) {
  bool first = true;
  return text.each([&](char c) {
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                        static_cast<unsigned char>(c) >= 0x80;
    const char changed = first ? upper(c) : lower(c);
    if (every_word) {
      first = !letter;
    } else {
      first = false;
    }
    return changed;
  });
}

MarkedText replaced(const MarkedText& text, const std::string& from,
                    const MarkedText& to, std::int64_t most) {
  if (from.empty()) {
    throw UsageError("replace() wants something to replace");
  }
  MarkedText out;
  std::size_t at = 0;
  for (std::int64_t n = 0; most < 0 || n < most; ++n) {
    const std::size_t found = text.text().find(from, at);
    if (found == std::string::npos) break;
    out += text.substr(at, found - at);
    out += to;
    at = found + from.size();
  }
  return out += text.substr(at, text.size() - at);
}

TemplateValue split(const MarkedText& text,
                    const std::optional<std::string>& separator,
                    std::int64_t most) {
  ValueList parts;
  const std::string& s = text.text();
  std::size_t at = 0;
  if (separator) {
    if (separator->empty()) throw UsageError("split() wants a separator");
    while (most < 0 || std::cmp_less(parts.size(), most)) {
      const std::size_t found = s.find(*separator, at);
      if (found == std::string::npos) break;
      parts.emplace_back(text.substr(at, found - at));
      at = found + separator->size();
    }
    parts.emplace_back(text.substr(at, s.size() - at));
    return list_value(std::move(parts));
  }
  const auto rest = [&] { return std::string_view(s).substr(at); };
  for (;;) {
    while (const std::size_t n = space_at_begin(rest())) at += n;
    if (at == s.size()) break;
    std::size_t end = at;
    if (most >= 0 && std::cmp_greater_equal(parts.size(), most)) {
      end = s.size();
    }
    while (end < s.size() &&
           space_at_begin(std::string_view(s).substr(end)) == 0)
      ++end;
    parts.emplace_back(text.substr(at, end - at));
    at = end;
  }
  return list_value(std::move(parts));
}

std::int64_t characters(const MarkedText& text) {
  return std::count_if(text.text().begin(), text.text().end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xc0) != 0x80;
  });
}

}  // namespace dai::paged
