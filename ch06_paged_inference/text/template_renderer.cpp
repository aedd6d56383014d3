// SPDX-License-Identifier: Apache-2.0
#include "ch06_paged_inference/text/template_renderer.h"

#include <fmt/format.h>

#include <algorithm>
#include <ctime>
#include <memory>
#include <optional>
#include <utility>

#include "ch06_paged_inference/text/template_builtins.h"
#include "ch06_paged_inference/text/template_operators.h"
#include "common/strict_json.h"

namespace dai::paged {
namespace {

using Expr = TemplateExpr;
using Node = TemplateNode;

constexpr int kMostSteps = 5'000'000;  // nodes and expressions

std::string local_time(const std::string& format) {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  ::localtime_r(&now, &parts);
  char text[256];
  return {text, std::strftime(text, sizeof text, format.c_str(), &parts)};
}

class Renderer {
 public:
  Renderer(const ValueDict& globals, std::string_view where) : where_(where) {
    scopes_.push_back(globals);
  }

  MarkedText run(const TemplateBlock& body) {
    MarkedText out;
    block(body, out);
    return out;
  }

 private:
  enum class Flow { kOn, kBreak, kContinue };

  [[noreturn]] void fail(int line, std::string_view why) const {
    refuse(where_, "chat template line {}: {}", line, why);
  }
  void count_step(int line, std::int64_t steps = 1) {
    steps_ += steps;
    if (steps_ > kMostSteps) fail(line, "takes too many steps");
  }

  template <class F>
  auto at_line(int line, F&& function) {
    try {
      return function();
    } catch (const UsageError& error) {
      if (std::string_view(error.what()).starts_with(where_)) throw;
      fail(line, error.what());
    }
  }

  const TemplateValue* find(std::string_view name) const {
    for (auto scope = scopes_.rbegin(); scope != scopes_.rend(); ++scope) {
      for (const auto& [key, value] : *scope) {
        if (key == name) return &value;
      }
    }
    return nullptr;
  }

  // --- statements ----------------------------------------------------------

  Flow block(const TemplateBlock& nodes, MarkedText& out) {
    for (const Node& node : nodes) {
      count_step(node.line);
      const Flow flow = statement(node, out);
      if (out.size() > kMostTemplateBytes) fail(node.line, "writes too much");
      if (flow != Flow::kOn) return flow;
    }
    return Flow::kOn;
  }

  Flow statement(const Node& node, MarkedText& out) {
    switch (node.kind) {
      case Node::Kind::kText:
        out += MarkedText(node.text, Author::kTemplate);
        return Flow::kOn;
      case Node::Kind::kOutput:
        out += evaluate(*node.expr).to_text();
        return Flow::kOn;
      case Node::Kind::kIf:
        return block(evaluate(*node.expr).truth() ? node.body : node.otherwise,
                     out);
      case Node::Kind::kFor:
        return loop(node, out);
      case Node::Kind::kSet:
        set(node);
        return Flow::kOn;
      case Node::Kind::kBreak:
        return Flow::kBreak;
      case Node::Kind::kContinue:
        return Flow::kContinue;
      case Node::Kind::kScope:
        return block(node.body, out);
    }
    return Flow::kOn;
  }

  void bind(const std::vector<std::string>& names, const TemplateValue& value,
            int line) {
    if (names.size() == 1) {
      return set_member(scopes_.back(), names[0], value);
    }
    const ValueList* parts = value.list();
    if (parts == nullptr || parts->size() != names.size()) {
      fail(line, fmt::format("{} names for {}", names.size(),
                             parts == nullptr
                                 ? value.type_name()
                                 : fmt::format("{} values", parts->size())));
    }
    for (std::size_t i = 0; i < names.size(); ++i) {
      set_member(scopes_.back(), names[i], (*parts)[i]);
    }
  }

  void set(const Node& node) {
    TemplateValue value;
    if (node.expr != nullptr) {
      value = evaluate(*node.expr);
    } else {
      MarkedText text;
      block(node.body, text);
      value = std::move(text);
    }
    if (node.member.empty()) return bind(node.names, value, node.line);
    const TemplateValue* object = find(node.names[0]);
    const auto* dict =
        object == nullptr ? nullptr : object->get<std::shared_ptr<ValueDict>>();
    if (dict == nullptr || !(*dict)->is_namespace) {
      fail(node.line, fmt::format("'{}' is no namespace", node.names[0]));
    }
    set_member(**dict, node.member, std::move(value));
  }

  Flow loop(const Node& node, MarkedText& out) {
    ValueList items =
        at_line(node.line, [&] { return elements_of(evaluate(*node.expr)); });
    if (node.filter != nullptr) {
      ValueList kept;
      for (TemplateValue& item : items) {
        scopes_.emplace_back();
        bind(node.names, item, node.line);
        const bool keep = evaluate(*node.filter).truth();
        scopes_.pop_back();
        if (keep) kept.push_back(std::move(item));
      }
      items = std::move(kept);
    }
    if (items.empty()) return block(node.otherwise, out);
    for (std::size_t i = 0; i < items.size(); ++i) {
      count_step(node.line);
      scopes_.emplace_back();
      set_member(scopes_.back(), "loop", loop_value(items, i));
      bind(node.names, items[i], node.line);
      const Flow flow = block(node.body, out);
      scopes_.pop_back();
      if (flow == Flow::kBreak) break;
    }
    return Flow::kOn;
  }

  static TemplateValue loop_value(const ValueList& items, std::size_t at) {
    const auto i = static_cast<std::int64_t>(at);
    const std::int64_t n = std::ssize(items);
    ValueDict loop{{"index", i + 1},    {"index0", i},
                   {"revindex", n - i}, {"revindex0", n - i - 1},
                   {"first", i == 0},   {"last", i + 1 == n},
                   {"length", n}};
    if (i > 0) loop.emplace_back("previtem", items[at - 1]);
    if (i + 1 < n) loop.emplace_back("nextitem", items[at + 1]);
    return dict_value(std::move(loop));
  }

  // --- expressions ---------------------------------------------------------

  TemplateValue evaluate(const Expr& expr) {
    count_step(expr.line);
    TemplateValue value = at_line(expr.line, [&] { return value_of(expr); });
    // Long values are work as well.
    const auto bytes = [](const TemplateValue& v) {
      return v.text() == nullptr ? 8
                                 : static_cast<std::int64_t>(v.text()->size());
    };
    std::int64_t size = bytes(value);
    const bool made = expr.kind != Expr::Kind::kName &&
                      expr.kind != Expr::Kind::kMember &&
                      expr.kind != Expr::Kind::kIndex;
    if (made && value.list() != nullptr) {
      for (const TemplateValue& v : *value.list()) size += bytes(v);
    } else if (made && value.dict() != nullptr) {
      for (const auto& [name, v] : *value.dict()) size += bytes(v);
    }
    count_step(expr.line, size / 64);
    return value;
  }

  TemplateValue value_of(const Expr& expr) {
    switch (expr.kind) {
      case Expr::Kind::kLiteral:
        return expr.value;
      case Expr::Kind::kName: {
        const TemplateValue* value = find(expr.name);
        return value == nullptr ? TemplateValue() : *value;
      }
      case Expr::Kind::kList: {
        ValueList list;
        for (const ExprPtr& child : expr.children) {
          list.push_back(evaluate(*child));
        }
        return list_value(std::move(list));
      }
      case Expr::Kind::kDict: {
        ValueDict dict;
        for (std::size_t i = 0; i < expr.children.size(); i += 2) {
          set_member(dict, evaluate(*expr.children[i]).to_text().text(),
                     evaluate(*expr.children[i + 1]));
        }
        return dict_value(std::move(dict));
      }
      case Expr::Kind::kMember:
        return member_of(evaluate(*expr.children[0]), expr.name);
      case Expr::Kind::kIndex:
        return item_of(evaluate(*expr.children[0]),
                       evaluate(*expr.children[1]));
      case Expr::Kind::kSlice:
        return slice(expr);
      case Expr::Kind::kCall:
        return call(expr);
      case Expr::Kind::kFilter: {
        const TemplateValue value = evaluate(*expr.children[0]);
        return apply_filter(expr.name, value, arguments(expr));
      }
      case Expr::Kind::kTest: {
        const TemplateValue value = evaluate(*expr.children[0]);
        return apply_test(expr.name, value, arguments(expr));
      }
      case Expr::Kind::kUnary:
        return apply_unary(expr.name, evaluate(*expr.children[0]));
      case Expr::Kind::kBinary:
        return binary(expr);
      case Expr::Kind::kCondition: {
        const bool truth = evaluate(*expr.children[1]).truth();
        if (truth) return evaluate(*expr.children[0]);
        return expr.children[2] == nullptr ? TemplateValue()
                                           : evaluate(*expr.children[2]);
      }
    }
    return {};
  }

  TemplateValue slice(const Expr& expr) {
    const TemplateValue object = evaluate(*expr.children[0]);
    const auto bound = [&](std::size_t child) -> std::optional<std::int64_t> {
      if (expr.children[child] == nullptr) return std::nullopt;
      const TemplateValue value = evaluate(*expr.children[child]);
      if (value.is_none()) return std::nullopt;
      const auto* integer = value.get<std::int64_t>();
      if (integer == nullptr) throw UsageError("a slice wants integers");
      return *integer;
    };
    const auto begin = bound(1), end = bound(2), step = bound(3);
    return slice_of(object, begin, end, step.value_or(1));
  }

  CallArguments arguments(const Expr& expr) {
    CallArguments args;
    for (const ExprPtr& argument : expr.arguments) {
      args.positional.push_back(evaluate(*argument));
    }
    for (const auto& [name, argument] : expr.keywords) {
      args.keywords.emplace_back(name, evaluate(*argument));
    }
    return args;
  }

  TemplateValue call(const Expr& expr) {
    const Expr& callee = *expr.children[0];
    if (callee.kind == Expr::Kind::kMember) {
      const TemplateValue object = evaluate(*callee.children[0]);
      return call_method(object, callee.name, arguments(expr));
    }
    if (callee.kind != Expr::Kind::kName) {
      throw UsageError("this call is not supported");
    }
    const CallArguments args = arguments(expr);
    if (callee.name == "raise_exception") {
      throw UsageError(fmt::format("the template refuses these messages: {}",
                                   printable(args.text(0, "message", ""))));
    }
    if (callee.name == "namespace" || callee.name == "dict") {
      if (!args.positional.empty()) {
        throw UsageError(fmt::format("{}() takes names only", callee.name));
      }
      const TemplateValue made = dict_value(args.keywords);
      std::get<std::shared_ptr<ValueDict>>(made.data)->is_namespace =
          callee.name == "namespace";
      return made;
    }
    if (callee.name == "strftime_now") {
      return text_value(local_time(args.text(0, "format", "%Y-%m-%d")));
    }
    if (callee.name == "range") return range_of(args);
    throw UsageError(
        fmt::format("the function '{}' is not supported", callee.name));
  }

  TemplateValue binary(const Expr& expr) {
    const std::string& sign = expr.name;
    TemplateValue a = evaluate(*expr.children[0]);
    // Python's: the operand that decided.
    if (sign == "and") return a.truth() ? evaluate(*expr.children[1]) : a;
    if (sign == "or") return a.truth() ? a : evaluate(*expr.children[1]);
    return apply_binary(sign, a, evaluate(*expr.children[1]));
  }

  std::vector<ValueDict> scopes_;
  std::string_view where_;
  std::int64_t steps_ = 0;
};

}  // namespace

MarkedText render_template(const TemplateBlock& body, const ValueDict& globals,
                           std::string_view where) {
  return Renderer(globals, where).run(body);
}

}  // namespace dai::paged
