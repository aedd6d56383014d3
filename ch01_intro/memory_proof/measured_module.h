// SPDX-License-Identifier: Apache-2.0
#pragma once

// The memory of a reader's own TorchScript module on the CPU: its states
// predicted from the file's directory before anything is loaded, its
// activations and peak measured under the ledger.
//
//   MeasuredModule m = measure_module("model.pt", specs, /*steps=*/3, 1234);
//   m.loaded_bytes == m.file.states + m.file.constants;
//
// A step is a forward pass of the same inputs, backward from the loss
// (script_module.h) where the parameters ask for gradients, and no update.
// Errors: those of ScriptModule. One measurement at a time: it owns the
// process's ledger.

#include <cstdint>
#include <string>
#include <vector>

#include "ch01_intro/memory/allocation_log.h"
#include "ch01_intro/module_file/input_spec.h"
#include "ch01_intro/module_file/script_module.h"

namespace dai::intro {

struct MeasuredModule {
  ModuleFileBytes file;           // predicted
  std::int64_t loaded_bytes = 0;  // live once the module is loaded
  std::int64_t trainable = 0;     // of the parameters that ask for gradients
  std::int64_t gradients = 0;     // fewer where the loss does not use them all
  std::int64_t activations = 0;
  bool has_backward = false;
  std::vector<std::int64_t> after_step;  // live bytes
  std::int64_t live = 0;                 // the allocator's count at the end
  MemoryReport report;

  std::string to_string() const;  // the tables
};

MeasuredModule measure_module(const std::string& path,
                              const std::vector<InputSpec>& inputs,
                              std::int64_t steps, std::uint64_t seed);

}  // namespace dai::intro
