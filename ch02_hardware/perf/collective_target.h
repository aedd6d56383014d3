// SPDX-License-Identifier: Apache-2.0
#pragma once

// Something that does collectives and can be measured: chapter 2's own
// library, or any backend through c10d (c10d_target.h).

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "ch02_hardware/collectives/operands.h"
#include "ch02_hardware/model/communicator.h"

namespace dai::hardware {

class CollectiveTarget {
 public:
  virtual ~CollectiveTarget() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;
  virtual std::string description() const = 0;
  // Whether this collective has this form here: c10d reduces and broadcasts in
  // place only, and exchanges out of place only.
  virtual bool offers(Collective what, bool in_place) const = 0;
  // Blocking; on a GPU its stream is waited for by settle().
  virtual void run(Collective what, const Operands& operands) = 0;
  virtual void settle() {}

  // Buffers where the target wants them, and ways there from ordinary memory.
  virtual void* allocate(std::size_t bytes) = 0;
  virtual void release() = 0;  // all of them
  virtual void write(void* to, const void* from, std::size_t bytes) = 0;
  virtual void read(void* to, const void* from, std::size_t bytes) = 0;

  // The sum of a number over all ranks, and a barrier with it.
  virtual double sum(double mine) = 0;
  virtual double largest(double mine) = 0;
};

// Names of DirectTarget's two that are no entry of algorithms().
bool is_canonical(const std::string& algorithm);
inline constexpr std::int64_t kCanonicalMicrobatches = 12;

// The library itself, with the algorithm of its choice or with a certain one.
class DirectTarget final : public CollectiveTarget {
 public:
  // `algorithm`: a name, or "auto", or of all_reduce "canonical" (12
  // microbatches shared evenly, of which each rank's subtrees are added up
  // already: its operand is the first, zeros are the others) or "fixed_point".
  DirectTarget(Communicator& group, const std::string& algorithm);
  int rank() const override;
  int size() const override;
  std::string description() const override;
  bool offers(Collective what, bool in_place) const override;
  void run(Collective what, const Operands& operands) override;
  void* allocate(std::size_t bytes) override;
  void release() override;
  void write(void* to, const void* from, std::size_t bytes) override;
  void read(void* to, const void* from, std::size_t bytes) override;
  double sum(double mine) override;
  double largest(double mine) override;

 private:
  double reduced(double mine, ReduceOp op);
  void run_canonical(const Operands& operands);
  Communicator& group_;
  const std::string algorithm_;
  std::vector<std::unique_ptr<std::byte[]>> buffers_;
  std::vector<std::byte> zeros_;
};

// Times over ranks, in seconds for one collective.
struct CollectiveTime {
  double mean_s = 0;  // over ranks, as nccl-tests reports by default
  double max_s = 0;
};

// `warm_up` rounds, then `rounds` timed together, on all ranks at once.
CollectiveTime time_collective(CollectiveTarget& target, Collective what,
                               const Operands& operands, int warm_up,
                               int rounds);

}  // namespace dai::hardware
