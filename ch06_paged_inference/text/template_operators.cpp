// SPDX-License-Identifier: Apache-2.0
#include "ch06_paged_inference/text/template_operators.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "common/errors.h"

namespace dai::paged {
namespace {

// Python's // and %: towards minus infinity, the sign of the divisor.
std::int64_t floor_divide(std::int64_t a, std::int64_t b) {
  const std::int64_t q = a / b;
  return a % b != 0 && (a < 0) != (b < 0) ? q - 1 : q;
}

TemplateValue joined(MarkedText a, const MarkedText& b) {
  if (a.size() + b.size() > kMostTemplateBytes)
    throw UsageError("a text is too long");
  return a += b;
}

TemplateValue arithmetic(const std::string& sign, const TemplateValue& a,
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

}  // namespace

TemplateValue member_of(const TemplateValue& object, const std::string& name) {
  if (object.is_undefined()) {
    throw UsageError(fmt::format("'{}' is asked of an undefined value", name));
  }
  const TemplateValue* found = object.member(name);
  return found == nullptr ? TemplateValue() : *found;
}

TemplateValue item_of(const TemplateValue& object, const TemplateValue& at) {
  if (at.text() != nullptr) return member_of(object, at.text()->text());
  const auto* position = at.get<std::int64_t>();
  if (object.is_undefined() || position == nullptr) {
    throw UsageError(
        fmt::format("{} is indexed by {}", object.type_name(), at.type_name()));
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

TemplateValue slice_of(const TemplateValue& object,
                       std::optional<std::int64_t> from,
                       std::optional<std::int64_t> to, std::int64_t by) {
  const ValueList list = elements_of(object);
  const std::int64_t n = std::ssize(list);
  const std::int64_t step = std::clamp(by, -n - 1, n + 1);
  if (step == 0) throw UsageError("a slice with step 0");
  const auto clamped = [&](std::int64_t i) {
    if (i < 0) i += n;
    return std::clamp<std::int64_t>(i, step < 0 ? -1 : 0, step < 0 ? n - 1 : n);
  };
  const std::int64_t begin = from ? clamped(*from) : step < 0 ? n - 1 : 0;
  const std::int64_t end = to ? clamped(*to) : step < 0 ? -1 : n;
  ValueList part;
  for (std::int64_t i = begin; step < 0 ? i > end : i < end; i += step) {
    part.push_back(list[static_cast<std::size_t>(i)]);
  }
  if (object.text() == nullptr) return list_value(std::move(part));
  MarkedText text;
  for (const TemplateValue& c : part) text += *c.text();
  return text;
}

TemplateValue range_of(const CallArguments& args) {
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

TemplateValue apply_unary(const std::string& sign, const TemplateValue& value) {
  if (sign == "not") return !value.truth();
  double number = 0;
  if (!value.number(number)) {
    throw UsageError(fmt::format("'{}' before {}", sign, value.type_name()));
  }
  if (sign == "+") return value;
  if (const auto* integer = value.get<std::int64_t>()) {
    return static_cast<std::int64_t>(0U - static_cast<std::uint64_t>(*integer));
  }
  return -number;
}

TemplateValue apply_binary(const std::string& sign, const TemplateValue& a,
                           const TemplateValue& b) {
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
    if (list.size() > kMostTemplateBytes / 64)
      throw UsageError("a list is too long");
    return list_value(std::move(list));
  }
  return arithmetic(sign, a, b);
}

}  // namespace dai::paged
