// SPDX-License-Identifier: Apache-2.0
#include "ch02_hardware/explorer/recording_transport.h"

#include <algorithm>
#include <functional>

namespace dai::hardware {

RecordingTransport::RecordingTransport(Transport& inner,
                                       const Operands& operands,
                                       std::size_t input_bytes,
                                       std::size_t output_bytes)
    : inner_(inner),
      operands_(operands),
      input_bytes_(input_bytes),
      output_bytes_(output_bytes) {}

RecordedPart RecordingTransport::part(int peer, const void* data,
                                      std::size_t bytes) const {
  const auto* const at = static_cast<const std::byte*>(data);
  const auto within = [&](const std::byte* buffer, std::size_t size) {
    return buffer && !std::less<>{}(at, buffer) &&
           !std::less<>{}(buffer + size, at + bytes);
  };
  RecordedPart part;
  part.peer = peer;
  part.bytes = bytes;
  if (within(operands_.out(), output_bytes_)) {
    part.place = Place::kOutput;
    part.offset = at - operands_.out();
  } else if (within(operands_.in(), input_bytes_)) {
    part.place = Place::kInput;
    part.offset = at - operands_.in();
  }
  return part;
}

void RecordingTransport::exchange(std::span<const Outgoing> outgoing,
                                  std::span<const Incoming> incoming) {
  RecordedExchange one;
  for (const Outgoing& out : outgoing) {
    one.sent.push_back(part(out.to, out.data, out.bytes));
  }
  for (const Incoming& in : incoming) {
    one.received.push_back(part(in.from, in.data, in.bytes));
    one.received.back().combined = in.combine != nullptr;
  }
  const auto moves = [](const RecordedPart& part) { return part.bytes > 0; };
  if (std::any_of(one.sent.begin(), one.sent.end(), moves) ||
      std::any_of(one.received.begin(), one.received.end(), moves)) {
    log_.push_back(std::move(one));
  }
  inner_.exchange(outgoing, incoming);
}

}  // namespace dai::hardware
