// SPDX-License-Identifier: Apache-2.0
#include "ch06_paged_inference/text/template_lexer.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "common/strict_json.h"

namespace dai::paged {
namespace {

using Kind = TemplateToken::Kind;

bool is_space(char c) {
  return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\v' ||
         c == '\f';
}
bool is_digit(char c) {
  return c >= '0' && c <= '9';
}
bool is_name(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
         is_digit(c);
}

void append_utf8(std::string& out, unsigned code) {
  if (code < 0x80) {
    out += static_cast<char>(code);
  } else if (code < 0x800) {
    out += static_cast<char>(0xc0 | code >> 6);
    out += static_cast<char>(0x80 | (code & 63));
  } else {
    out += static_cast<char>(0xe0 | code >> 12);
    out += static_cast<char>(0x80 | (code >> 6 & 63));
    out += static_cast<char>(0x80 | (code & 63));
  }
}

class Lexer {
 public:
  Lexer(std::string_view source, std::string_view where) : where_(where) {
    // As Jinja: line ends are \n, and one at the very end is dropped.
    for (std::size_t i = 0; i < source.size(); ++i) {
      if (source[i] == '\r') {
        source_ += '\n';
        if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
      } else {
        source_ += source[i];
      }
    }
    if (source_.ends_with('\n')) source_.pop_back();
  }

  std::vector<TemplateToken> run() {
    while (at_ < source_.size()) text_and_tag();
    push(Kind::kEnd, "");
    return std::move(tokens_);
  }

 private:
  void push(Kind kind, std::string text) {
    tokens_.push_back({kind, std::move(text), line_});
  }
  [[noreturn]] void fail(std::string_view why) const {
    refuse(where_, "chat template line {}: {}", line_, why);
  }
  std::string_view rest() const {
    return std::string_view(source_).substr(at_);
  }
  void advance(std::size_t n) {
    line_ += static_cast<int>(
        std::count(source_.begin() + at_, source_.begin() + at_ + n, '\n'));
    at_ += n;
  }

  void text_and_tag() {
    std::size_t tag = at_;
    for (;; ++tag) {
      tag = source_.find('{', tag);
      if (tag == std::string::npos || tag + 1 >= source_.size()) {
        tag = source_.size();
        break;
      }
      const char next = source_[tag + 1];
      if (next == '{' || next == '%' || next == '#') break;
    }
    std::string text = source_.substr(at_, tag - at_);
    const bool at_line_start = line_start_;
    const bool is_tag = tag < source_.size();
    const char opener = is_tag ? source_[tag + 1] : '\0';
    const char sign = tag + 2 < source_.size() ? source_[tag + 2] : '\0';
    if (is_tag && sign == '-') {
      while (!text.empty() && is_space(text.back())) text.pop_back();
    } else if (is_tag && sign != '+' && opener != '{') {
      // lstrip_blocks: nothing but white space since the line began.
      const std::size_t line = text.rfind('\n') + 1;  // npos + 1 == 0
      if ((line > 0 || at_line_start) &&
          std::all_of(text.begin() + line, text.end(), is_space)) {
        text.resize(line);
      }
    }
    if (!text.empty()) push(Kind::kText, std::move(text));
    advance(tag - at_);
    line_start_ = false;
    if (!is_tag) return;
    advance(sign == '-' || sign == '+' ? 3 : 2);
    if (opener == '#') {
      comment();
    } else {
      push(opener == '{' ? Kind::kOutputBegin : Kind::kBlockBegin, "");
      inside(opener == '{' ? "}}" : "%}");
    }
  }

  void comment() {
    const std::size_t end = source_.find("#}", at_);
    if (end == std::string::npos) fail("a comment does not end");
    const bool strip = end > at_ && source_[end - 1] == '-';
    advance(end + 2 - at_);
    after_tag(strip, true);
  }

  // What a tag takes away behind it.
  void after_tag(bool strip, bool block) {
    const std::size_t begin = at_;
    if (strip) {
      std::size_t n = 0;
      while (at_ + n < source_.size() && is_space(source_[at_ + n])) ++n;
      advance(n);
    } else if (block && at_ < source_.size() && source_[at_] == '\n') {
      advance(1);  // trim_blocks
    }
    line_start_ = at_ > begin && source_[at_ - 1] == '\n';
  }

  // Tokens up to the end of the tag.
  void inside(std::string_view end) {
    int depth = 0;  // "}}" inside a dict is no end
    for (;;) {
      while (at_ < source_.size() && is_space(source_[at_])) advance(1);
      if (at_ >= source_.size()) fail("a tag does not end");
      const bool signed_end =
          (rest()[0] == '-' || rest()[0] == '+') && rest().substr(1, 2) == end;
      if (depth == 0 && (signed_end || rest().starts_with(end))) {
        const char sign = signed_end ? rest()[0] : '\0';
        const bool block = end == "%}";
        push(block ? Kind::kBlockEnd : Kind::kOutputEnd, "");
        advance(signed_end ? 3 : 2);
        return after_tag(sign == '-', block && sign != '+');
      }
      const char c = source_[at_];
      if (c == '\'' || c == '"') {
        string(c);
      } else if (is_digit(c)) {
        number();
      } else if (is_name(c)) {
        std::size_t n = 1;
        while (at_ + n < source_.size() && is_name(source_[at_ + n])) ++n;
        push(Kind::kName, source_.substr(at_, n));
        advance(n);
      } else {
        sign(depth);
      }
    }
  }

  void string(char quote) {
    std::string text;
    std::size_t i = at_ + 1;
    for (; i < source_.size() && source_[i] != quote; ++i) {
      if (source_[i] != '\\') {
        text += source_[i];
        continue;
      }
      if (++i == source_.size()) break;
      escape(text, i);
    }
    if (i >= source_.size()) fail("a string does not end");
    push(Kind::kString, std::move(text));
    advance(i + 1 - at_);
  }

  // Python's escapes; source_[i] is the character behind the backslash.
  void escape(std::string& text, std::size_t& i) const {
    constexpr std::string_view kNames = "ntrfvab0\\'\"";
    constexpr std::string_view kValues("\n\t\r\f\v\a\b\0\\'\"", 11);
    const char c = source_[i];
    const std::size_t digits = c == 'x' ? 2 : c == 'u' ? 4 : 0;
    if (digits != 0) {
      unsigned code = 0;
      for (std::size_t k = 1; k <= digits; ++k) {
        const char h = i + k < source_.size() ? source_[i + k] : '\0';
        const int value = is_digit(h)            ? h - '0'
                          : h >= 'a' && h <= 'f' ? h - 'a' + 10
                          : h >= 'A' && h <= 'F' ? h - 'A' + 10
                                                 : -1;
        if (value < 0) fail("an escape has too few digits");
        code = code * 16 + static_cast<unsigned>(value);
      }
      append_utf8(text, code);
      i += digits;
      return;
    }
    if (const std::size_t known = kNames.find(c); known != kNames.npos) {
      text += kValues[known];
    } else if (c != '\n') {  // a line's end behind a backslash is nothing
      text += '\\';
      text += c;
    }
  }

  void number() {
    std::string text;
    bool real = false;
    std::size_t n = 0;
    for (; at_ + n < source_.size(); ++n) {
      const char c = source_[at_ + n];
      const char next = at_ + n + 1 < source_.size() ? source_[at_ + n + 1] : 0;
      if (c == '_' && is_digit(next)) continue;
      if (c == '.' && !real && is_digit(next)) {
        real = true;
      } else if (!is_digit(c)) {
        break;
      }
      text += c;
    }
    if (text.size() > 18) fail("a number is too long");
    push(real ? Kind::kFloat : Kind::kInteger, std::move(text));
    advance(n);
  }

  void sign(int& depth) {
    constexpr std::array<std::string_view, 25> kSigns{
        "==", "!=", "<=", ">=", "//", "**", "+", "-", "*", "/", "%", "~", "<",
        ">",  "=",  "(",  ")",  "[",  "]",  "{", "}", ",", ".", ":", "|"};
    for (const std::string_view known : kSigns) {
      if (!rest().starts_with(known)) continue;
      if (known == "(" || known == "[" || known == "{") ++depth;
      if (known == ")" || known == "]" || known == "}") {
        if (--depth < 0) fail(fmt::format("'{}' closes nothing", known));
      }
      push(Kind::kSign, std::string(known));
      return advance(known.size());
    }
    fail(fmt::format("{} is not expected", printable(rest().substr(0, 1))));
  }

  std::string source_;
  std::string_view where_;
  std::size_t at_ = 0;
  int line_ = 1;
  bool line_start_ = true;  // what comes next begins a line
  std::vector<TemplateToken> tokens_;
};

}  // namespace

std::vector<TemplateToken> template_tokens(std::string_view source,
                                           std::string_view where) {
  return Lexer(source, where).run();
}

}  // namespace dai::paged
