// SPDX-License-Identifier: Apache-2.0
// Ours as a program, which Python compares with its own: lines of JSON in,
// lines of JSON out.
//
//   {"do": "render", "template": T, "messages": [...], "more": {...},
//    "generate": true}                        -> {"text": ...} or {"error":
//    ...}
//   {"do": "load", "model": PATH}             -> {"vocab": n}
//   {"do": "encode", "text": T}               -> {"ids": [...]}
//   {"do": "chat", "messages": [...]}         -> {"text": ..., "ids": [...]}
//   {"do": "dequantize", "type": n, "hex": H} -> {"hex": of float32}

#include <iostream>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "ch06_paged_inference/model_file/block_format.h"
#include "ch06_paged_inference/text/chat_template.h"
#include "ch06_paged_inference/text/model_text.h"

namespace {

using Json = nlohmann::ordered_json;
using namespace dai::paged;

std::string from_hex(const std::string& hex) {
  std::string bytes;
  for (std::size_t i = 0; i < hex.size(); i += 2) {
    bytes += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
  }
  return bytes;
}

std::string to_hex(std::string_view bytes) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string hex;
  for (const char c : bytes) {
    hex += kDigits[static_cast<unsigned char>(c) >> 4];
    hex += kDigits[c & 15];
  }
  return hex;
}

Json answer(const Json& ask, std::optional<ModelText>& model) {
  const std::string what = ask.at("do");
  if (what == "render") {
    const ChatTemplate chat(ask.at("template"), "'t'",
                            {.bos_token = "<bos>", .eos_token = "<eos>"});
    return {{"text",
             chat.render(ask.at("messages"), ask.at("generate"), ask.at("more"))
                 .text()}};
  }
  if (what == "load") {
    model.emplace(open_model_text(ask.at("model").get<std::string>()));
    return {{"vocab", model->tokenizer.vocab_size()}};
  }
  if (what == "encode") {
    return {
        {"ids", model->tokenizer.encode(ask.at("text").get<std::string>())}};
  }
  if (what == "chat") {
    const MarkedText text = model->chat->render(ask.at("messages"), true);
    return {{"text", text.text()},
            {"ids", encode_marked(model->tokenizer, text)}};
  }
  const std::string blocks = from_hex(ask.at("hex"));
  const BlockFormat format = *format_of_ggml_type(ask.at("type"));
  std::vector<float> values(blocks.size() / block_bytes(format) *
                            block_values(format));
  dequantize(format, std::as_bytes(std::span(blocks)), values);
  return {{"hex", to_hex({reinterpret_cast<const char*>(values.data()),
                          values.size() * sizeof(float)})}};
}

}  // namespace

int main() {
  std::optional<ModelText> model;
  for (std::string line; std::getline(std::cin, line);) {
    Json out;
    try {
      out = answer(Json::parse(line), model);
    } catch (const std::exception& error) {
      out = {{"error", error.what()}};
    }
    std::cout << out.dump() << std::endl;
  }
}
