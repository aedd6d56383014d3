// SPDX-License-Identifier: Apache-2.0
#include <initializer_list>

#include "ch06_paged_inference/text/template_parsing.h"

namespace dai::paged {
namespace {

using Node = TemplateNode;

class Parser : private ExpressionParser {
 public:
  Parser(std::string_view source, std::string_view where)
      : ExpressionParser(source, where) {}

  TemplateBlock run() {
    TemplateBlock block = parse_block({});
    if (now().kind != Kind::kEnd) fail("a tag stands where none is open");
    return block;
  }

 private:
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
};

}  // namespace

TemplateBlock parse_template(std::string_view source, std::string_view where) {
  return Parser(source, where).run();
}

}  // namespace dai::paged
