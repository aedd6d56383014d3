// SPDX-License-Identifier: Apache-2.0
#pragma once

// What a profiler recorded, sorted into answers: which operators took the
// step's time, which modules of the model, and how much of it was no matrix
// product at all. Torch-free; kineto_recording.h makes the events.
//
//   OperatorProfile profile = sort_events(events);
//   profile.operators[0].name;       // the most expensive one
//   profile.self_ns();               // == profile.wall_ns, to the nanosecond
//
// Self time of an event is its duration less that of the events inside it.
// Operators' self times and the time between operators (the self time of
// scopes) therefore add up to the step.
//
// A module is a scope ("layers.3.attention"); an operator belongs to the
// innermost one around it. Backward runs outside of the modules' scopes: a
// node of the graph belongs to the module whose forward made it
// (node_makers.h). PyTorch numbers nodes as a thread makes them, and writes the
// next node's number beside each operator and a node's own number beside its
// backward.
//
//   forward   [layers.3.attention [aten::linear 40 [aten::t 40] [aten::mm 41]
//   backward  [evaluate_function [MmBackward0 41 [aten::mm] [aten::mm]]]

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace dai::intro {

// The scope that a whole step is recorded under.
inline constexpr const char* kStepScope = "step";
// What is done in this module is the optimizer's, whatever operators it takes.
inline constexpr const char* kOptimizerScope = "optimizer";

struct ProfiledEvent {
  enum class Kind { kOperator, kScope, kBackwardNode };

  std::string name;
  Kind kind = Kind::kOperator;
  std::uint64_t thread = 0;
  std::int64_t begin_ns = 0, end_ns = 0;
  // The next node's number, of a kBackwardNode its own; -1: none.
  std::int64_t sequence = -1;
  std::uint64_t forward_thread = 0;  // of a kBackwardNode
  std::int64_t device_ns = 0;        // kernels that this very event launched
  std::int64_t flops = 0;            // as the profiler counts
};

enum class OperatorGroup {
  kMatmul,
  kAttention,
  kNorm,
  kLoss,
  kPointwise,
  kCopy,
  kEmbedding,
  kDispatch,  // views, composite operators, the autograd engine
  kOptimizer,
  kOther,
  kBetween  // in no operator: our own code
};
inline constexpr int kOperatorGroups = 11;

const char* to_string(OperatorGroup group);
OperatorGroup group_of(std::string_view operator_name);

struct OperatorRow {
  std::string name;
  OperatorGroup group = OperatorGroup::kOther;
  std::int64_t calls = 0, self_ns = 0, total_ns = 0, device_ns = 0;
};

struct ModuleRow {
  std::string name;  // empty: in no module
  std::int64_t forward_ns = 0, backward_ns = 0, device_ns = 0;
};

struct GroupRow {
  OperatorGroup group = OperatorGroup::kOther;
  std::int64_t self_ns = 0, device_ns = 0;
};

// Sums over all steps recorded.
struct OperatorProfile {
  std::int64_t steps = 0;
  std::int64_t wall_ns = 0;           // of the steps
  std::int64_t other_threads_ns = 0;  // self time beside the step's thread
  std::int64_t escaped = 0;           // events that outlived their parent: 0
  std::int64_t flops = 0;
  std::vector<OperatorRow> operators;  // by self time, the largest first
  std::vector<GroupRow> groups;        // one each, in the enum's order
  std::vector<ModuleRow> modules;      // as they were met

  // Of the step's thread: operators and what is between them.
  std::int64_t self_ns() const;
  std::int64_t device_ns() const;           // of all kernels
  double share(OperatorGroup group) const;  // of all self time
  // Neither matrix products nor attention.
  double outside_products() const;
  // Which of `names` have no forward or no backward time.
  std::vector<std::string> idle_modules(
      const std::vector<std::string>& names) const;
  // "layers.*.attention" for all layers together.
  std::vector<ModuleRow> modules_of_all_layers() const;
};

// Throws std::invalid_argument without a scope named kStepScope.
OperatorProfile sort_events(std::vector<ProfiledEvent> events);

}  // namespace dai::intro
