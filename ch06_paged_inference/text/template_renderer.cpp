// SPDX-License-Identifier: Apache-2.0
#include "ch06_paged_inference/text/template_renderer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <ctime>
#include <memory>
#include <utility>

#include "ch06_paged_inference/text/template_builtins.h"
#include "common/strict_json.h"

namespace dai::paged {
namespace {

using Expr = TemplateExpr;
using Node = TemplateNode;

constexpr std::size_t kMostBytes = std::size_t{64} << 20;
constexpr int kMostSteps = 5'000'000;  // nodes and expressions

std::string local_time(const std::string& format) {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  ::localtime_r(&now, &parts);
  char text[256];
  return {text, std::strftime(text, sizeof text, format.c_str(), &parts)};
}

// Python's // and %: towards minus infinity, the sign of the divisor.
std::int64_t floor_divide(std::int64_t a, std::int64_t b) {
  const std::int64_t q = a / b;
  return a % b != 0 && (a < 0) != (b < 0) ? q - 1 : q;
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
      if (out.size() > kMostBytes) fail(node.line, "writes too much");
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
    if (dict == nullptr) {
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
    if (value.list() != nullptr) {
      count_step(expr.line, std::ssize(*value.list()) / 8);
    } else if (value.text() != nullptr) {
      count_step(expr.line,
                 static_cast<std::int64_t>(value.text()->size()) / 64);
    }
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
        return member(evaluate(*expr.children[0]), expr.name);
      case Expr::Kind::kIndex:
        return index(evaluate(*expr.children[0]), evaluate(*expr.children[1]));
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
        return unary(expr.name, evaluate(*expr.children[0]));
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

  static TemplateValue member(const TemplateValue& object,
                              const std::string& name) {
    if (object.is_undefined()) {
      throw UsageError(
          fmt::format("'{}' is asked of an undefined value", name));
    }
    const TemplateValue* found = object.member(name);
    return found == nullptr ? TemplateValue() : *found;
  }

  static TemplateValue index(const TemplateValue& object,
                             const TemplateValue& at) {
    if (at.text() != nullptr) return member(object, at.text()->text());
    const auto* position = at.get<std::int64_t>();
    if (object.is_undefined() || position == nullptr) {
      throw UsageError(fmt::format("{} is indexed by {}", object.type_name(),
                                   at.type_name()));
    }
    if (object.dict() != nullptr) return Undefined{};
    ValueList characters;
    if (object.list() == nullptr) characters = elements_of(object);
    const ValueList& list =
        object.list() != nullptr ? *object.list() : characters;
    const std::int64_t i =
        *position < 0 ? *position + std::ssize(list) : *position;
    if (i < 0 || i >= std::ssize(list)) return Undefined{};
    return list[static_cast<std::size_t>(i)];
  }

  TemplateValue slice(const Expr& expr) {
    const TemplateValue object = evaluate(*expr.children[0]);
    const ValueList list = elements_of(object);
    const std::int64_t n = std::ssize(list);
    const auto bound = [&](std::size_t child, std::int64_t fallback) {
      if (expr.children[child] == nullptr) return fallback;
      const TemplateValue value = evaluate(*expr.children[child]);
      if (value.is_none()) return fallback;
      const auto* integer = value.get<std::int64_t>();
      if (integer == nullptr) throw UsageError("a slice wants integers");
      return *integer;
    };
    const std::int64_t step = std::clamp(bound(3, 1), -n - 1, n + 1);
    if (step == 0) throw UsageError("a slice with step 0");
    const auto clamped = [&](std::int64_t i) {
      if (i < 0) i += n;
      return std::clamp<std::int64_t>(i, step < 0 ? -1 : 0,
                                      step < 0 ? n - 1 : n);
    };
    std::int64_t begin = step < 0 ? n - 1 : 0, end = step < 0 ? -1 : n;
    if (expr.children[1] != nullptr) begin = clamped(bound(1, begin));
    if (expr.children[2] != nullptr) end = clamped(bound(2, end));
    ValueList part;
    for (std::int64_t i = begin; step < 0 ? i > end : i < end; i += step) {
      part.push_back(list[static_cast<std::size_t>(i)]);
    }
    if (object.text() == nullptr) return list_value(std::move(part));
    MarkedText text;
    for (const TemplateValue& c : part) text += *c.text();
    return text;
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
      const TemplateValue made = dict_value(args.keywords);
      std::get<std::shared_ptr<ValueDict>>(made.data)->is_namespace =
          callee.name == "namespace";
      return made;
    }
    if (callee.name == "strftime_now") {
      return text_value(local_time(args.text(0, "format", "%Y-%m-%d")));
    }
    if (callee.name == "range") return range(args);
    throw UsageError(
        fmt::format("the function '{}' is not supported", callee.name));
  }

  static TemplateValue range(const CallArguments& args) {
    std::int64_t bounds[3] = {0, 0, 1};
    const std::size_t n = args.positional.size();
    for (std::size_t i = 0; i < n && i < 3; ++i) {
      const auto* integer = args.positional[i].get<std::int64_t>();
      if (integer == nullptr) throw UsageError("range() wants integers");
      bounds[n == 1 ? 1 : i] = *integer;
    }
    const auto [begin, end, step] = bounds;
    constexpr std::int64_t kMost = 1'000'000;
    if (step == 0 || std::abs(step) > kMost || std::abs(begin) > kMost ||
        std::abs(end) > kMost) {
      throw UsageError("range() is too long");
    }
    ValueList list;
    for (std::int64_t i = begin; step < 0 ? i > end : i < end; i += step) {
      list.emplace_back(i);
    }
    return list_value(std::move(list));
  }

  static TemplateValue unary(const std::string& sign,
                             const TemplateValue& value) {
    if (sign == "not") return !value.truth();
    double number = 0;
    if (!value.number(number)) {
      throw UsageError(fmt::format("'{}' before {}", sign, value.type_name()));
    }
    if (sign == "+") return value;
    if (const auto* integer = value.get<std::int64_t>()) {
      return static_cast<std::int64_t>(0U -
                                       static_cast<std::uint64_t>(*integer));
    }
    return -number;
  }

  TemplateValue binary(const Expr& expr) {
    const std::string& sign = expr.name;
    TemplateValue a = evaluate(*expr.children[0]);
    // Python's: the operand that decided.
    if (sign == "and") return a.truth() ? evaluate(*expr.children[1]) : a;
    if (sign == "or") return a.truth() ? a : evaluate(*expr.children[1]);
    const TemplateValue b = evaluate(*expr.children[1]);
    if (sign == "==") return equal(a, b);
    if (sign == "!=") return !equal(a, b);
    if (sign == "in") return contains(b, a);
    if (sign == "not in") return !contains(b, a);
    if (sign == "<") return compare(a, b) < 0;
    if (sign == ">") return compare(a, b) > 0;
    if (sign == "<=") return compare(a, b) <= 0;
    if (sign == ">=") return compare(a, b) >= 0;
    if (sign == "~") return joined(a.to_text(), b.to_text());
    if (sign == "+" && a.text() != nullptr && b.text() != nullptr) {
      return joined(*a.text(), *b.text());
    }
    if (sign == "+" && a.list() != nullptr && b.list() != nullptr) {
      ValueList list = *a.list();
      list.insert(list.end(), b.list()->begin(), b.list()->end());
      if (list.size() > kMostBytes / 64) throw UsageError("a list is too long");
      return list_value(std::move(list));
    }
    return arithmetic(sign, a, b);
  }

  static TemplateValue joined(MarkedText a, const MarkedText& b) {
    if (a.size() + b.size() > kMostBytes)
      throw UsageError("a text is too long");
    return a += b;
  }

  static TemplateValue arithmetic(const std::string& sign,
                                  const TemplateValue& a,
                                  const TemplateValue& b) {
    double x = 0, y = 0;
    if (!a.number(x) || !b.number(y)) {
      throw UsageError(
          fmt::format("{} {} {}", a.type_name(), sign, b.type_name()));
    }
    const bool whole = a.get<double>() == nullptr && b.get<double>() == nullptr;
    if ((sign == "/" || sign == "//" || sign == "%") && y == 0) {
      throw UsageError("a division by zero");
    }
    double result = 0;
    if (sign == "+") result = x + y;
    if (sign == "-") result = x - y;
    if (sign == "*") result = x * y;
    if (sign == "/") return x / y;
    if (sign == "**") result = std::pow(x, y);
    if (sign == "//" || sign == "%") {
      if (whole && std::abs(x) < 0x1p53 && std::abs(y) < 0x1p53) {
        const auto i = static_cast<std::int64_t>(x);
        const auto j = static_cast<std::int64_t>(y);
        const std::int64_t q = floor_divide(i, j);
        return sign == "//" ? q : i - q * j;
      }
      result = sign == "//" ? std::floor(x / y) : x - std::floor(x / y) * y;
    }
    if (!whole) return result;
    if (!(std::abs(result) < 0x1p53)) throw UsageError("a number is too large");
    return static_cast<std::int64_t>(result);
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
