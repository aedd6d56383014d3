// SPDX-License-Identifier: Apache-2.0
#pragma once

// Passes everything on and writes down who sent what to whom: so that a picture
// of an algorithm is made of the algorithm, not of a description of it.
//
//   RecordingTransport recorder(inner, operands);
//   ring_all_reduce(operands, recorder);
//   recorder.log()       // this rank's exchanges that moved something, in
//   order

#include <vector>

#include "ch02_hardware/collectives/operands.h"

namespace dai::hardware {

// Where the bytes of a message lie on the rank that named them.
enum class Place { kInput, kOutput, kScratch };

struct RecordedPart {
  int peer = -1;
  Place place = Place::kScratch;
  std::size_t offset = 0;  // bytes from the start of that buffer
  std::size_t bytes = 0;
  bool combined = false;  // added on arrival
};
struct RecordedExchange {
  std::vector<RecordedPart> sent, received;
};

class RecordingTransport final : public Transport {
 public:
  // `inner` outlives it. Buffers are those of `operands`, with their lengths in
  // bytes, for telling input, output and scratch apart.
  RecordingTransport(Transport& inner, const Operands& operands,
                     std::size_t input_bytes, std::size_t output_bytes);

  int rank() const override { return inner_.rank(); }
  int size() const override { return inner_.size(); }
  std::string medium() const override { return inner_.medium(); }
  int node_of(int rank) const override { return inner_.node_of(rank); }
  void begin(const Call& call) override { inner_.begin(call); }
  void wait_for_all() override { inner_.wait_for_all(); }
  void exchange(std::span<const Outgoing> outgoing,
                std::span<const Incoming> incoming) override;
  using Transport::exchange;

  const std::vector<RecordedExchange>& log() const { return log_; }

 private:
  RecordedPart part(int peer, const void* data, std::size_t bytes) const;

  Transport& inner_;
  const Operands operands_;
  const std::size_t input_bytes_, output_bytes_;
  std::vector<RecordedExchange> log_;
};

}  // namespace dai::hardware
