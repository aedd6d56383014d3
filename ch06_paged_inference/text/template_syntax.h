// SPDX-License-Identifier: Apache-2.0
#pragma once

// A chat template, parsed: the part of Jinja (jinja.palletsprojects.com) that
// published templates use. White space is handled as Hugging Face's
// transformers sets Jinja up: trim_blocks, lstrip_blocks, and "-" on either
// side of a tag.
//
//   const TemplateBlock body = parse_template(source, "'m.gguf'");
//
// Statements:   if/elif/else, for (unpacking, filter, else, break, continue),
//               set (names, a namespace's members, blocks), generation
// Expressions:  literals, lists, tuples, dicts, . [] [a:b] (), + - * / // % **
//               ~, comparisons, in, and/or/not, a if b else c, | filters, is
//               tests
// A tuple is a list, and upper, lower, title change ASCII letters only.
// Everything else (macro, include, extends, ...) throws UsageError that names
// it and its line, as does what is malformed.

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ch06_paged_inference/text/template_value.h"

namespace dai::paged {

struct TemplateExpr {
  enum class Kind : std::uint8_t {
    kLiteral,    // value
    kName,       // name
    kList,       // children
    kDict,       // children: key, value, key, value
    kMember,     // children[0].name
    kIndex,      // children[0][children[1]]
    kSlice,      // children[0][children[1]:children[2]:children[3]], may be
                 // null
    kCall,       // children[0](arguments, keywords)
    kFilter,     // children[0] | name(arguments, keywords)
    kTest,       // children[0] is name(arguments)
    kUnary,      // name children[0]: "-" "+" "not"
    kBinary,     // children[0] name children[1]
    kCondition,  // children[0] if children[1] else children[2] (may be null)
  };
  Kind kind{};
  int line = 0;
  int depth = 1;  // of the tree below
  std::string name;
  TemplateValue value;
  std::vector<std::unique_ptr<TemplateExpr>> children;
  std::vector<std::unique_ptr<TemplateExpr>> arguments;
  std::vector<std::pair<std::string, std::unique_ptr<TemplateExpr>>> keywords;
};
using ExprPtr = std::unique_ptr<TemplateExpr>;

struct TemplateNode;
using TemplateBlock = std::vector<TemplateNode>;

struct TemplateNode {
  enum class Kind : std::uint8_t {
    kText,    // text
    kOutput,  // expr
    kIf,      // expr, body, otherwise
    kFor,     // names in expr if filter: body, otherwise
    kSet,     // names (or names[0].member) = expr, or = body where no expr
    kBreak,
    kContinue,
    kScope,  // body
  };
  Kind kind{};
  int line = 0;
  std::string text;
  std::vector<std::string> names;
  std::string member;
  ExprPtr expr, filter;
  TemplateBlock body, otherwise;
};

TemplateBlock parse_template(std::string_view source, std::string_view where);

}  // namespace dai::paged
