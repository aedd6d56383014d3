// SPDX-License-Identifier: Apache-2.0
#include "ch03_ddp/checkpoint/checkpoint_saver.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <exception>
#include <memory>
#include <random>
#include <stdexcept>
#include <thread>
#include <utility>

#include "ch03_ddp/checkpoint/training_state.h"
#include "common/safetensors.h"
#include "common/timer.h"
#include "common/torch/c10d_compat.h"
#include "common/torch/process_group.h"

namespace dai::ddp {

using namespace std::chrono_literals;
using intro::NamedParameter;

namespace {

std::string file_of(int rank, int ranks) {
  return fmt::format("rank-{:05}-of-{:05}.safetensors", rank, ranks);
}

std::string key_of(const std::string& token, std::int64_t step,
                   const std::string& what) {
  return fmt::format("checkpoint {} {} {}", token, step, what);
}

}  // namespace

// This rank's run of each tensor's elements, in memory of its own.
struct CheckpointSaver::Share {
  struct Run {
    std::string name;
    Dtype dtype;
    Shape shape;          // of the whole tensor
    std::int64_t offset;  // of the run, in elements
    at::Tensor values;    // flat, on the CPU
    std::span<const std::byte> bytes() const {
      return {static_cast<const std::byte*>(values.const_data_ptr()),
              values.nbytes()};
    }
    // A whole tensor keeps its shape, for readers that know no manifest.
    Shape own_shape() const {
      return values.numel() == element_count(shape) ? shape
                                                    : Shape{values.numel()};
    }
  };
  std::int64_t step;
  Metadata metadata;
  std::vector<Run> runs;
};

CheckpointSaver::CheckpointSaver(ProcessGroup& group, CheckpointStore store,
                                 const SaverOptions& options)
    : group_(group),
      store_(std::move(store)),
      options_((options.keep.check(), options)),
      exceptions_(std::uncaught_exceptions()) {
  token_ =
      group.gather_strings(fmt::format("{:08x}", std::random_device()()))[0];
  if (group.rank() == 0) store_.sweep(token_);
}

CheckpointSaver::~CheckpointSaver() {
  if (!under_way_.valid()) return;
  if (std::uncaught_exceptions() > exceptions_) {
    given_up_ = true;
    under_way_.wait();
  } else {
    wait();
  }
}

double CheckpointSaver::save(std::int64_t step,
                             const std::vector<NamedParameter>& tensors,
                             Metadata metadata) {
  const WallTimer timer;
  wait();
  auto share = std::make_shared<Share>(
      Share{.step = step, .metadata = std::move(metadata), .runs = {}});
  share->metadata["world_size"] = fmt::format("{}", group_.size());
  for (const auto& [name, tensor] : tensors) {
    const std::int64_t n = tensor.numel();
    const std::int64_t begin = n * group_.rank() / group_.size();
    const std::int64_t end = n * (group_.rank() + 1) / group_.size();
    if (begin == end) continue;
    const at::Tensor mine =
        tensor.detach().reshape({-1}).narrow(0, begin, end - begin);
    share->runs.push_back({.name = name,
                           .dtype = checkpoint_dtype(tensor.scalar_type()),
                           .shape = tensor.sizes().vec(),
                           .offset = begin,
                           .values = mine.to(at::kCPU, mine.scalar_type(),
                                             /*non_blocking=*/false,
                                             /*copy=*/true)});
  }
  step_ = step;
  under_way_ =
      std::async(std::launch::async, [this, share] { return write(*share); });
  if (!options_.asynchronous) wait();
  return timer.ms();
}

void CheckpointSaver::wait() {
  if (!under_way_.valid()) return;
  const std::string problem = under_way_.get();
  if (problem.empty()) {
    ++saved_;
    last_step_ = step_;
    return;
  }
  ++failed_;
  if (group_.rank() != 0) return;
  spdlog::warn(
      "no checkpoint of step {}: {}; the training goes on, {}", step_, problem,
      last_step_ < 0 ? "there is none yet"
                     : fmt::format("the last one is of step {}", last_step_));
}

std::string CheckpointSaver::write(const Share& share) {
  const auto mine = [&](const std::string& text) {
    group_.store()->set(
        key_of(token_, share.step, fmt::format("rank {}", group_.rank())),
        std::vector<std::uint8_t>(text.begin(), text.end()));
  };
  try {
    const auto folder = store_.begin(share.step, token_);
    const std::string file = file_of(group_.rank(), group_.size());
    CheckpointManifest manifest;
    manifest.metadata = share.metadata;
    std::vector<SafetensorsWriter::Entry> entries;
    for (const Share::Run& run : share.runs) {
      entries.push_back({run.name, run.dtype, run.own_shape()});
      manifest.add_shard(run.name, run.dtype, run.shape, file, run.offset,
                         run.bytes());
    }
    SafetensorsWriter writer(folder / file, std::move(entries));
    std::map<std::string, const Share::Run*> by_name;
    for (const Share::Run& run : share.runs) by_name[run.name] = &run;
    for (const auto& entry : writer.order()) {
      writer.write(entry.name, by_name.at(entry.name)->bytes());
    }
    writer.commit();
    mine(to_json(manifest));
  } catch (const std::exception& error) {
    try {
      mine(fmt::format("rank {}: {}", group_.rank(), error.what()));
    } catch (const std::exception&) {
      return error.what();  // the store is gone, too
    }
  }
  try {
    return group_.rank() == 0 ? finish(share)
                              : tell(key_of(token_, share.step, "done"));
  } catch (const std::exception& error) {
    return error.what();
  }
}

std::string CheckpointSaver::finish(const Share& share) {
  std::string problem;
  try {
    CheckpointManifest manifest;
    manifest.metadata = share.metadata;
    for (int rank = 0; rank < group_.size(); ++rank) {
      const std::string part =
          tell(key_of(token_, share.step, fmt::format("rank {}", rank)));
      if (!part.starts_with("{")) throw std::runtime_error(part);
      manifest.merge(parse_manifest(part, fmt::format("rank {}", rank)));
    }
    write_manifest(store_.begin(share.step, token_), manifest);
    store_.commit(share.step, token_);
    store_.prune(share.step, options_.keep);
  } catch (const std::exception& error) {
    problem = error.what();
    store_.abandon(share.step, token_);
  }
  group_.store()->set(
      key_of(token_, share.step, "done"),
      std::vector<std::uint8_t>(problem.begin(), problem.end()));
  return problem;
}

// Looks again and again: a store that waits lets nobody else in meanwhile.
std::string CheckpointSaver::tell(const std::string& key) {
  const auto deadline = std::chrono::steady_clock::now() + options_.timeout;
  while (!group_.store()->check({key})) {
    if (given_up_) throw std::runtime_error("given up");
    if (std::chrono::steady_clock::now() > deadline) {
      throw std::runtime_error(fmt::format("nothing heard of \"{}\" for {} s",
                                           key, options_.timeout.count()));
    }
    std::this_thread::sleep_for(5ms);
  }
  const auto value = group_.store()->get(key);
  return {value.begin(), value.end()};
}

}  // namespace dai::ddp
