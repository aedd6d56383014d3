// SPDX-License-Identifier: Apache-2.0
#pragma once

// The allocation log, attached to PyTorch's CPU allocator: from its
// construction to its destruction every byte of every CPU tensor of this
// process is seen, also those that autograd and the backends ask for. Tensors
// may outlive the ledger; memory older than the ledger is not in it.
//
//   MemoryLedger ledger;
//   Decoder decoder(...);
//   for (const auto& p : decoder.parameters())
//     ledger.claim(p.tensor, MemoryCategory::kParameters);
//   {
//     MemoryPhase phase(&ledger, "forward", /*saves=*/true);
//     loss = decoder.loss(tokens, targets);
//   }
//   MemoryReport report = ledger.report();
//
// Modules name themselves: a user scope of PyTorch's RecordFunction (the
// decoder's are "layers.3.attention" and the like) is a module of the report.
// No other thread may run PyTorch operators while a ledger is made or
// destroyed (RecordFunction's own rule).
//
// MemoryPhase and MemoryModule take a pointer that may be null, so that the
// code they stand in runs the same without a ledger.
//
// One ledger at a time. Errors: std::logic_error for a second one, and those
// of AllocationLog. It hooks in through c10::SetCPUAllocator (LibTorch 2.11,
// c10/core/CPUAllocator.h). CUDA tensors are not counted.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <string>

#include "ch01_intro/memory/allocation_log.h"

namespace dai::intro {

class MemoryLedger {
 public:
  MemoryLedger();
  ~MemoryLedger();
  MemoryLedger(const MemoryLedger&) = delete;
  MemoryLedger& operator=(const MemoryLedger&) = delete;

  // The storage behind `tensor`, of which it may be a view. Tensors without
  // CPU bytes (undefined, meta, empty) have nothing to claim.
  void claim(const at::Tensor& tensor, MemoryCategory category);

  AllocationLog& log();
  std::int64_t live_bytes() const;
  MemoryReport report(std::size_t points = 2000) const;

 private:
  std::shared_ptr<AllocationLog> log_;
  std::uint64_t scopes_ = 0;  // RecordFunction's handle
};

class MemoryPhase {
 public:
  MemoryPhase(MemoryLedger* ledger, const std::string& name,
              bool saves = false);
  ~MemoryPhase();
  MemoryPhase(const MemoryPhase&) = delete;
  MemoryPhase& operator=(const MemoryPhase&) = delete;

 private:
  MemoryLedger* ledger_;
};

class MemoryModule {
 public:
  MemoryModule(MemoryLedger* ledger, const std::string& name);
  ~MemoryModule();
  MemoryModule(const MemoryModule&) = delete;
  MemoryModule& operator=(const MemoryModule&) = delete;

 private:
  MemoryLedger* ledger_;
};

}  // namespace dai::intro
