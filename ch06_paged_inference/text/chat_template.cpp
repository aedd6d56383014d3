// SPDX-License-Identifier: Apache-2.0
#include "ch06_paged_inference/text/chat_template.h"

#include <algorithm>
#include <map>
#include <utility>

#include "ch01_intro/tokenizer/added_tokens.h"
#include "ch06_paged_inference/text/template_renderer.h"
#include "common/strict_json.h"

namespace dai::paged {
namespace {

using Json = nlohmann::ordered_json;

// A role becomes part of control tokens ("<|" + role + "|>"), so it is one of
// the template's words: nothing but letters.
bool is_role(const std::string& role) {
  return !role.empty() && role.size() <= 32 &&
         std::all_of(role.begin(), role.end(),
                     [](char c) { return (c >= 'a' && c <= 'z') || c == '_'; });
}

}  // namespace

ChatTemplate::ChatTemplate(std::string source, std::string where,
                           ChatTokens tokens)
    : source_(std::move(source)),
      where_(std::move(where)),
      tokens_(std::move(tokens)),
      body_(parse_template(source_, where_)) {}

MarkedText ChatTemplate::render(const std::vector<ChatMessage>& messages,
                                bool add_generation_prompt) const {
  Json list = Json::array();
  for (const ChatMessage& message : messages) {
    list.push_back({{"role", message.role}, {"content", message.content}});
  }
  return render(list, add_generation_prompt);
}

MarkedText ChatTemplate::render(const Json& messages,
                                bool add_generation_prompt,
                                const Json& more) const {
  ValueList list;
  for (const Json& message : messages) {
    const auto role = message.find("role");
    if (role == message.end() || !role->is_string() ||
        !is_role(role->get<std::string>())) {
      throw UsageError(
          "a message's role is one word of small letters, such as user");
    }
    const TemplateValue value = from_json(message);
    set_member(*std::get<std::shared_ptr<ValueDict>>(value.data), "role",
               text_value(role->get<std::string>()));
    list.push_back(value);
  }
  ValueDict globals;
  for (const auto& [name, value] : more.items()) {
    globals.emplace_back(name, from_json(value));
  }
  set_member(globals, "messages", list_value(std::move(list)));
  set_member(globals, "add_generation_prompt", add_generation_prompt);
  set_member(globals, "bos_token", text_value(tokens_.bos_token));
  set_member(globals, "eos_token", text_value(tokens_.eos_token));
  return render_template(body_, globals, where_);
}

std::vector<std::int32_t> encode_marked(const intro::Tokenizer& tokenizer,
                                        const MarkedText& text) {
  const intro::AddedTokenMatcher matcher(tokenizer.parts().added_tokens);
  std::map<std::int32_t, std::string_view> contents;
  for (const auto& token : tokenizer.parts().added_tokens) {
    contents[token.id] = token.content;
  }
  std::vector<std::int32_t> ids;
  const auto add_text = [&](std::string_view part) {
    const std::vector<std::int32_t> more = tokenizer.encode(
        part, {.add_special_tokens = false, .parse_special_tokens = false});
    ids.insert(ids.end(), more.begin(), more.end());
  };
  // Text runs on over a user's control tokens: merges do not see the seam.
  const std::string& bytes = text.text();
  std::size_t begin = 0, at = 0;
  matcher.split(bytes, false, [&](std::string_view part, std::int32_t id) {
    const std::size_t end = at + part.size();
    // White space that the token swallows may be anybody's.
    const std::string_view content = id >= 0 ? contents.at(id) : part;
    const std::size_t first = at + part.find(content);
    bool of_template = id >= 0;
    for (std::size_t i = 0; i < content.size() && of_template; ++i) {
      of_template = text.author(first + i) == Author::kTemplate;
    }
    if (of_template) {
      add_text(std::string_view(bytes).substr(begin, at - begin));
      ids.push_back(id);
      begin = end;
    } else if (id >= 0 && !tokenizer.is_special(id)) {
      // encode() would find this one again: not in two halves.
      const std::size_t middle = first + 1;
      add_text(std::string_view(bytes).substr(begin, middle - begin));
      begin = middle;
    }
    at = end;
  });
  add_text(std::string_view(bytes).substr(begin));
  return ids;
}

}  // namespace dai::paged
