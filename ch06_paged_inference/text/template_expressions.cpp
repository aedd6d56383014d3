// SPDX-License-Identifier: Apache-2.0
#include <array>
#include <charconv>

#include "ch06_paged_inference/text/template_parsing.h"

namespace dai::paged {

ExprPtr ExpressionParser::parse_tuple_or_expr() {
  ExprPtr first = parse_expr();
  if (!is_sign(",")) return first;
  ExprPtr tuple = make(Expr::Kind::kList);
  add(*tuple, std::move(first));
  while (take_sign(",")) {
    if (now().kind == Kind::kOutputEnd || now().kind == Kind::kBlockEnd ||
        is_sign(")")) {
      break;
    }
    add(*tuple, parse_expr());
  }
  return tuple;
}

ExprPtr ExpressionParser::parse_expr() {
  const Deeper deeper(*this);
  ExprPtr value = parse_or();
  while (is_word("if")) {
    ExprPtr condition = make(Expr::Kind::kCondition);
    ++at_;
    add(*condition, std::move(value));
    add(*condition, parse_or());
    add(*condition, take_word("else") ? parse_expr() : nullptr);
    value = std::move(condition);
  }
  return value;
}

ExprPtr ExpressionParser::binary(ExprPtr left, std::string name,
                                 ExprPtr right) {
  ExprPtr expr = make(Expr::Kind::kBinary, std::move(name));
  add(*expr, std::move(left));
  add(*expr, std::move(right));
  return expr;
}

ExprPtr ExpressionParser::parse_or() {
  ExprPtr left = parse_and();
  while (take_word("or")) left = binary(std::move(left), "or", parse_and());
  return left;
}

ExprPtr ExpressionParser::parse_and() {
  ExprPtr left = parse_not();
  while (take_word("and")) left = binary(std::move(left), "and", parse_not());
  return left;
}

ExprPtr ExpressionParser::parse_not() {
  const Deeper deeper(*this);
  if (!is_word("not")) return parse_compare();
  ExprPtr expr = make(Expr::Kind::kUnary, "not");
  ++at_;
  add(*expr, parse_not());
  return expr;
}

// a < b < c means a < b and b < c: only the plain form is taken.
ExprPtr ExpressionParser::parse_compare() {
  ExprPtr left = parse_level(0);
  const std::string name = compare_sign();
  if (name.empty()) return left;
  left = binary(std::move(left), name, parse_level(0));
  if (!compare_sign().empty()) fail("a chain of comparisons is not supported");
  return left;
}

std::string ExpressionParser::compare_sign() {
  for (const char* sign : {"==", "!=", "<", ">", "<=", ">="}) {
    if (take_sign(sign)) return sign;
  }
  if (take_word("in")) return "in";
  if (is_word("not") && next().kind == Kind::kName && next().text == "in") {
    at_ += 2;
    return "not in";
  }
  return {};
}

// Left-associative levels: + and -, then ~, then * / // %, then **.
ExprPtr ExpressionParser::parse_level(std::size_t level) {
  static constexpr std::array<std::array<std::string_view, 4>, 4> kLevels{
      {{"+", "-"}, {"~"}, {"*", "//", "/", "%"}, {"**"}}};
  if (level == kLevels.size()) return parse_unary(true);
  ExprPtr left = parse_level(level + 1);
  for (;;) {
    const auto& signs = kLevels[level];
    const auto sign = std::find_if(
        signs.begin(), signs.end(),
        [&](std::string_view s) { return !s.empty() && is_sign(s); });
    if (sign == signs.end()) return left;
    ++at_;
    left = binary(std::move(left), std::string(*sign), parse_level(level + 1));
  }
}

ExprPtr ExpressionParser::parse_unary(bool with_filter) {
  const Deeper deeper(*this);
  ExprPtr expr;
  if (is_sign("-") || is_sign("+")) {
    expr = make(Expr::Kind::kUnary, now().text);
    ++at_;
    add(*expr, parse_unary(false));
  } else {
    expr = parse_postfix(parse_primary());
  }
  return with_filter ? parse_filters(std::move(expr)) : std::move(expr);
}

ExprPtr ExpressionParser::parse_number() {
  const TemplateToken& token = tokens_[at_++];
  ExprPtr expr = make(Expr::Kind::kLiteral);
  const char* const end = token.text.data() + token.text.size();
  if (token.kind == Kind::kInteger) {
    std::int64_t integer = 0;
    std::from_chars(token.text.data(), end, integer);
    expr->value = integer;
  } else {
    double real = 0;
    std::from_chars(token.text.data(), end, real);
    expr->value = real;
  }
  return expr;
}

ExprPtr ExpressionParser::parse_name() {
  ExprPtr expr = make(Expr::Kind::kLiteral);
  const std::string name = want_name();
  if (name == "true" || name == "True") {
    expr->value = true;
  } else if (name == "false" || name == "False") {
    expr->value = false;
  } else if (name == "none" || name == "None") {
    expr->value = None{};
  } else {
    expr->kind = Expr::Kind::kName;
    expr->name = name;
  }
  return expr;
}

ExprPtr ExpressionParser::parse_primary() {
  const TemplateToken& token = now();
  ExprPtr expr = make(Expr::Kind::kLiteral);
  if (token.kind == Kind::kString) {
    std::string text;
    while (now().kind == Kind::kString) text += tokens_[at_++].text;
    expr->value = text_value(std::move(text));
  } else if (token.kind == Kind::kInteger || token.kind == Kind::kFloat) {
    expr = parse_number();
  } else if (token.kind == Kind::kName) {
    expr = parse_name();
  } else if (take_sign("(")) {
    if (take_sign(")")) {
      expr->kind = Expr::Kind::kList;
    } else {
      expr = parse_tuple_or_expr();
      want_sign(")");
    }
  } else if (take_sign("[")) {
    expr->kind = Expr::Kind::kList;
    while (!take_sign("]")) {
      add(*expr, parse_expr());
      if (!is_sign("]")) want_sign(",");
    }
  } else if (take_sign("{")) {
    expr->kind = Expr::Kind::kDict;
    while (!take_sign("}")) {
      add(*expr, parse_expr());
      want_sign(":");
      add(*expr, parse_expr());
      if (!is_sign("}")) want_sign(",");
    }
  } else {
    fail("an expression is expected");
  }
  return expr;
}

ExprPtr ExpressionParser::parse_postfix(ExprPtr expr) {
  for (int links = 0;; ++links) {
    if (links > kMostDepth) fail("is nested too deeply");
    if (take_sign(".")) {
      ExprPtr member = make(Expr::Kind::kMember);
      member->name =
          now().kind == Kind::kInteger ? tokens_[at_++].text : want_name();
      add(*member, std::move(expr));
      expr = std::move(member);
    } else if (take_sign("[")) {
      expr = parse_subscript(std::move(expr));
    } else if (is_sign("(")) {
      ExprPtr call = make(Expr::Kind::kCall);
      add(*call, std::move(expr));
      parse_arguments(*call);
      expr = std::move(call);
    } else {
      return expr;
    }
  }
}

ExprPtr ExpressionParser::parse_subscript(ExprPtr of) {
  ExprPtr index = make(Expr::Kind::kIndex);
  add(*index, std::move(of));
  const auto bound = [&]() -> ExprPtr {
    return is_sign(":") || is_sign("]") ? nullptr : parse_expr();
  };
  add(*index, bound());
  if (is_sign(":")) {
    index->kind = Expr::Kind::kSlice;
    for (int i = 0; i < 2; ++i) {
      add(*index, take_sign(":") ? bound() : nullptr);
    }
  } else if (index->children[1] == nullptr) {
    fail("an index is expected");
  }
  want_sign("]");
  return index;
}

void ExpressionParser::parse_arguments(Expr& call) {
  want_sign("(");
  while (!take_sign(")")) {
    if (now().kind == Kind::kName && next().kind == Kind::kSign &&
        next().text == "=") {
      std::string name = want_name();
      ++at_;
      call.keywords.emplace_back(std::move(name), checked(call, parse_expr()));
    } else {
      call.arguments.push_back(checked(call, parse_expr()));
    }
    if (!is_sign(")")) want_sign(",");
  }
}

ExprPtr ExpressionParser::parse_filters(ExprPtr expr) {
  for (int links = 0;; ++links) {
    if (links > kMostDepth) fail("is nested too deeply");
    if (take_sign("|")) {
      ExprPtr filter = make(Expr::Kind::kFilter, want_name());
      add(*filter, std::move(expr));
      if (is_sign("(")) parse_arguments(*filter);
      expr = std::move(filter);
    } else if (take_word("is")) {
      const bool negated = take_word("not");
      ExprPtr test = make(Expr::Kind::kTest, want_name());
      add(*test, std::move(expr));
      if (is_sign("(")) {
        parse_arguments(*test);
      } else if (takes_bare_argument()) {
        test->arguments.push_back(
            checked(*test, parse_postfix(parse_primary())));
      }
      expr = std::move(test);
      if (negated) {
        ExprPtr inverse = make(Expr::Kind::kUnary, "not");
        add(*inverse, std::move(expr));
        expr = std::move(inverse);
      }
    } else {
      return expr;
    }
  }
}

// "x is divisibleby 3": a value directly behind a test is its argument.
bool ExpressionParser::takes_bare_argument() const {
  if (now().kind == Kind::kString || now().kind == Kind::kInteger ||
      now().kind == Kind::kFloat || is_sign("[") || is_sign("{")) {
    return true;
  }
  if (now().kind != Kind::kName) return false;
  for (const char* word : {"else", "or", "and", "is", "if", "in", "not"}) {
    if (now().text == word) return false;
  }
  return true;
}

}  // namespace dai::paged
