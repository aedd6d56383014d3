// SPDX-License-Identifier: Apache-2.0
#include "ch03_ddp/doctor/handshake.h"

#include <fmt/format.h>

#include <utility>

#include "common/torch/c10d_compat.h"

namespace dai::ddp {

Handshake::Handshake(c10::intrusive_ptr<::c10d::Store> store, std::string name)
    : store_(std::move(store)), name_(std::move(name)), written_(kSlots) {}

Handshake::~Handshake() = default;

bool Handshake::agree(std::uint64_t sequence, const std::string& signature) {
  std::lock_guard lock(mutex_);
  if (doomed_) return false;
  const std::uint64_t slot = sequence % kSlots;
  const std::string mine = fmt::format("{}|{}", sequence, signature);
  const std::string found = store_->compareSet(
      fmt::format("{}/{}", name_, slot), written_[slot], mine);
  written_[slot] = mine;
  doomed_ = found != mine;
  return !doomed_;
}

}  // namespace dai::ddp
