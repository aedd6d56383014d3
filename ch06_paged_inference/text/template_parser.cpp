// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <initializer_list>

#include "ch06_paged_inference/text/template_lexer.h"
#include "ch06_paged_inference/text/template_syntax.h"
#include "common/strict_json.h"

namespace dai::paged {
namespace {

using Kind = TemplateToken::Kind;
using Expr = TemplateExpr;
using Node = TemplateNode;

constexpr int kMostDepth = 300;  // of expressions and blocks in each other

// Recursive descent, a function for each level of Jinja's grammar.
class Parser {
 public:
  Parser(std::string_view source, std::string_view where)
      : tokens_(template_tokens(source, where)), where_(where) {}

  TemplateBlock run() {
    TemplateBlock block = parse_block({});
    if (now().kind != Kind::kEnd) fail("a tag stands where none is open");
    return block;
  }

 private:
  struct Deeper {
    explicit Deeper(Parser& parser) : depth(parser.depth_) {
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

  // --- statements ----------------------------------------------------------

  // Up to one of these tags, whose word is the current token then.
  TemplateBlock parse_block(std::initializer_list<std::string_view> ends) {
    const Deeper deeper(*this);
    TemplateBlock block;
    for (;;) {
      Node node;
      node.line = now().line;
      if (now().kind == Kind::kText) {
        node.text = tokens_[at_++].text;
        block.push_back(std::move(node));
      } else if (now().kind == Kind::kOutputBegin) {
        ++at_;
        node.kind = Node::Kind::kOutput;
        node.expr = parse_tuple_or_expr();
        want(Kind::kOutputEnd, "'}}'");
        block.push_back(std::move(node));
      } else if (now().kind == Kind::kBlockBegin) {
        ++at_;
        if (now().kind != Kind::kName) fail("a statement is expected");
        for (const std::string_view end : ends) {
          if (is_word(end)) return block;
        }
        parse_statement(node);
        block.push_back(std::move(node));
      } else {
        if (ends.size() != 0) {
          fail(fmt::format("{{% {} %}} is missing", *(ends.end() - 1)));
        }
        return block;
      }
    }
  }

  void end_tag() { want(Kind::kBlockEnd, "'%}'"); }

  void parse_statement(Node& node) {
    const std::string word = want_name();
    if (word == "if") {
      parse_if(node);
    } else if (word == "for") {
      parse_for(node);
    } else if (word == "set") {
      parse_set(node);
    } else if (word == "break" || word == "continue") {
      node.kind = word == "break" ? Node::Kind::kBreak : Node::Kind::kContinue;
      end_tag();
    } else if (word == "generation") {  // marks what training learns from
      node.kind = Node::Kind::kScope;
      end_tag();
      node.body = parse_block({"endgeneration"});
      ++at_;
      end_tag();
    } else {
      fail(fmt::format("{{% {} %}} is not supported", word));
    }
  }

  void parse_if(Node& node) {
    node.kind = Node::Kind::kIf;
    node.expr = parse_expr();
    end_tag();
    node.body = parse_block({"elif", "else", "endif"});
    const Deeper deeper(*this);
    if (take_word("elif")) {
      node.otherwise.emplace_back();
      node.otherwise.back().line = now().line;
      return parse_if(node.otherwise.back());
    }
    if (take_word("else")) {
      end_tag();
      node.otherwise = parse_block({"endif"});
    }
    ++at_;
    end_tag();
  }

  void parse_for(Node& node) {
    node.kind = Node::Kind::kFor;
    const bool bracket = take_sign("(");
    do node.names.push_back(want_name());
    while (take_sign(","));
    if (bracket) want_sign(")");
    if (!take_word("in")) fail("'in' is expected");
    node.expr = parse_or();  // 'if' is the loop's own here
    if (take_word("if")) node.filter = parse_expr();
    if (is_word("recursive")) fail("a recursive loop is not supported");
    end_tag();
    node.body = parse_block({"else", "endfor"});
    if (take_word("else")) {
      end_tag();
      node.otherwise = parse_block({"endfor"});
    }
    ++at_;
    end_tag();
  }

  void parse_set(Node& node) {
    node.kind = Node::Kind::kSet;
    node.names.push_back(want_name());
    if (take_sign(".")) {
      node.member = want_name();
    } else {
      while (take_sign(",")) node.names.push_back(want_name());
    }
    if (take_sign("=")) {
      node.expr = parse_tuple_or_expr();
      return end_tag();
    }
    if (!node.member.empty() || node.names.size() > 1 || is_sign("|")) {
      fail("'=' is expected");
    }
    end_tag();
    node.body = parse_block({"endset"});
    ++at_;
    end_tag();
  }

  // --- expressions, loosest first ------------------------------------------

  ExprPtr parse_tuple_or_expr() {
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

  ExprPtr parse_expr() {
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

  ExprPtr binary(ExprPtr left, std::string name, ExprPtr right) {
    ExprPtr expr = make(Expr::Kind::kBinary, std::move(name));
    add(*expr, std::move(left));
    add(*expr, std::move(right));
    return expr;
  }

  ExprPtr parse_or() {
    ExprPtr left = parse_and();
    while (take_word("or")) left = binary(std::move(left), "or", parse_and());
    return left;
  }

  ExprPtr parse_and() {
    ExprPtr left = parse_not();
    while (take_word("and")) left = binary(std::move(left), "and", parse_not());
    return left;
  }

  ExprPtr parse_not() {
    const Deeper deeper(*this);
    if (!is_word("not")) return parse_compare();
    ExprPtr expr = make(Expr::Kind::kUnary, "not");
    ++at_;
    add(*expr, parse_not());
    return expr;
  }

  // a < b < c means a < b and b < c: only the plain form is taken.
  ExprPtr parse_compare() {
    ExprPtr left = parse_level(0);
    const std::string name = compare_sign();
    if (name.empty()) return left;
    left = binary(std::move(left), name, parse_level(0));
    if (!compare_sign().empty())
      fail("a chain of comparisons is not supported");
    return left;
  }

  std::string compare_sign() {
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
  ExprPtr parse_level(std::size_t level) {
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
      left =
          binary(std::move(left), std::string(*sign), parse_level(level + 1));
    }
  }

  ExprPtr parse_unary(bool with_filter) {
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

  ExprPtr parse_primary() {
    const TemplateToken& token = now();
    ExprPtr expr = make(Expr::Kind::kLiteral);
    if (token.kind == Kind::kString) {
      std::string text;
      while (now().kind == Kind::kString) text += tokens_[at_++].text;
      expr->value = text_value(std::move(text));
    } else if (token.kind == Kind::kInteger || token.kind == Kind::kFloat) {
      std::int64_t integer = 0;
      double real = 0;
      const char* const end = token.text.data() + token.text.size();
      if (token.kind == Kind::kInteger) {
        std::from_chars(token.text.data(), end, integer);
        expr->value = integer;
      } else {
        std::from_chars(token.text.data(), end, real);
        expr->value = real;
      }
      ++at_;
    } else if (token.kind == Kind::kName) {
      const std::string& name = token.text;
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
      ++at_;
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

  ExprPtr parse_postfix(ExprPtr expr) {
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

  ExprPtr parse_subscript(ExprPtr of) {
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

  void parse_arguments(Expr& call) {
    want_sign("(");
    while (!take_sign(")")) {
      if (now().kind == Kind::kName && next().kind == Kind::kSign &&
          next().text == "=") {
        std::string name = want_name();
        ++at_;
        call.keywords.emplace_back(std::move(name),
                                   checked(call, parse_expr()));
      } else {
        call.arguments.push_back(checked(call, parse_expr()));
      }
      if (!is_sign(")")) want_sign(",");
    }
  }

  ExprPtr parse_filters(ExprPtr expr) {
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
  bool takes_bare_argument() const {
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

  std::vector<TemplateToken> tokens_;
  std::size_t at_ = 0;
  int depth_ = 0;
  std::string_view where_;
};

}  // namespace

TemplateBlock parse_template(std::string_view source, std::string_view where) {
  return Parser(source, where).run();
}

}  // namespace dai::paged
