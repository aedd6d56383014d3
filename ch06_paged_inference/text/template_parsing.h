// SPDX-License-Identifier: Apache-2.0
#pragma once

// What both halves of the parser of chat templates stand on: a place in the
// tokens, and nodes that know how deep they are. Jinja's expressions are read
// by ExpressionParser (template_expressions.cpp), its statements by the class
// derived from it in template_parser.cpp. Recursive descent, a function for
// each level of the grammar; what cannot be read throws UsageError with the
// line.

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ch06_paged_inference/text/template_lexer.h"
#include "ch06_paged_inference/text/template_syntax.h"
#include "common/strict_json.h"

namespace dai::paged {

class ExpressionParser {
 protected:
  using Kind = TemplateToken::Kind;
  using Expr = TemplateExpr;

  static constexpr int kMostDepth = 300;  // of expressions and blocks

  ExpressionParser(std::string_view source, std::string_view where)
      : tokens_(template_tokens(source, where)), where_(where) {}

  struct Deeper {
    explicit Deeper(ExpressionParser& parser) : depth(parser.depth_) {
      if (++depth > kMostDepth) parser.fail("is nested too deeply");
    }
    ~Deeper() { --depth; }
    int& depth;
  };

  const TemplateToken& now() const { return tokens_[at_]; }
  const TemplateToken& next() const {
    return tokens_[std::min(at_ + 1, tokens_.size() - 1)];
  }
  [[noreturn]] void fail(std::string_view why) const {
    refuse(where_, "chat template line {}: {}", now().line, why);
  }
  bool is(Kind kind, std::string_view text) const {
    return now().kind == kind && now().text == text;
  }
  bool is_sign(std::string_view text) const { return is(Kind::kSign, text); }
  bool is_word(std::string_view text) const { return is(Kind::kName, text); }
  bool take_sign(std::string_view text) {
    if (!is_sign(text)) return false;
    ++at_;
    return true;
  }
  bool take_word(std::string_view text) {
    if (!is_word(text)) return false;
    ++at_;
    return true;
  }
  void want_sign(std::string_view text) {
    if (!take_sign(text)) fail(fmt::format("'{}' is expected", text));
  }
  void want(Kind kind, const char* what) {
    if (now().kind != kind) fail(fmt::format("{} is expected", what));
    ++at_;
  }
  std::string want_name() {
    if (now().kind != Kind::kName) fail("a name is expected");
    return tokens_[at_++].text;
  }
  ExprPtr make(Expr::Kind kind, std::string name = {}) const {
    auto expr = std::make_unique<Expr>();
    expr->kind = kind;
    expr->line = now().line;
    expr->name = std::move(name);
    return expr;
  }

  // Trees are walked by recursion: a + a + a + ... is as deep as it is long.
  ExprPtr checked(Expr& parent, ExprPtr child) const {
    if (child != nullptr) {
      parent.depth = std::max(parent.depth, child->depth + 1);
      if (parent.depth > kMostDepth) fail("is nested too deeply");
    }
    return child;
  }
  void add(Expr& parent, ExprPtr child) const {
    parent.children.push_back(checked(parent, std::move(child)));
  }

  // Loosest first. Of a loop's list `if` is no part: parse_or().
  ExprPtr parse_tuple_or_expr();
  ExprPtr parse_expr();
  ExprPtr parse_or();

  std::vector<TemplateToken> tokens_;
  std::size_t at_ = 0;
  std::string_view where_;

 private:
  ExprPtr binary(ExprPtr left, std::string name, ExprPtr right);
  ExprPtr parse_and();
  ExprPtr parse_not();
  ExprPtr parse_compare();
  std::string compare_sign();
  ExprPtr parse_level(std::size_t level);
  ExprPtr parse_unary(bool with_filter);
  ExprPtr parse_primary();
  ExprPtr parse_number();
  ExprPtr parse_name();
  ExprPtr parse_postfix(ExprPtr expr);
  ExprPtr parse_subscript(ExprPtr of);
  void parse_arguments(Expr& call);
  ExprPtr parse_filters(ExprPtr expr);
  bool takes_bare_argument() const;

  int depth_ = 0;
};

}  // namespace dai::paged
