// SPDX-License-Identifier: Apache-2.0
#include "ch01_intro/memory/memory_ledger.h"

#include <ATen/record_function.h>
#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>

#include <atomic>
#include <stdexcept>
#include <utility>

namespace dai::intro {
namespace {

// Deleters are plain functions without a context of ours, so the log that
// hears of a free is found here. Each call holds a reference of its own: a
// free that races with the ledger's end still has a log to tell.
std::atomic<std::shared_ptr<AllocationLog>> current_log;

// Stands in front of PyTorch's allocator. Once put there it stays for the
// process's life: PyTorch keeps no list to take it out of, and tensors made
// through it may live as long.
class ObservedAllocator final : public c10::Allocator {
 public:
  explicit ObservedAllocator(c10::Allocator* real) : real_(real) {}

  c10::DataPtr allocate(std::size_t bytes) override {
    c10::DataPtr data = real_->allocate(bytes);
    const auto log = current_log.load();
    // The two deleters can only be exchanged when the real one needs nothing
    // but the address, as PyTorch's own CPU allocators promise.
    if (!log || data.get() == nullptr) return data;
    if (!data.compare_exchange_deleter(real_->raw_deleter(), &free_and_tell)) {
      throw std::logic_error("MemoryLedger: an unknown CPU allocator");
    }
    log->on_allocate(data.get(), static_cast<std::int64_t>(bytes));
    return data;
  }

  c10::DeleterFnPtr raw_deleter() const override { return &free_and_tell; }

  void copy_data(void* to, const void* from, std::size_t bytes) const override {
    real_->copy_data(to, from, bytes);
  }

  c10::Allocator* real() const { return real_; }

 private:
  static void free_and_tell(void* address);

  c10::Allocator* real_;
};

ObservedAllocator& observed() {
  static ObservedAllocator allocator(c10::GetCPUAllocator());
  return allocator;
}

void ObservedAllocator::free_and_tell(void* address) {
  // Told first: after the free, another thread may be given this address.
  if (const auto log = current_log.load()) log->on_free(address);
  observed().real()->raw_deleter()(address);
}

std::unique_ptr<at::ObserverContext> enter_scope(const at::RecordFunction& f) {
  if (const auto log = current_log.load()) log->enter_module(f.name());
  return nullptr;
}

void leave_scope(const at::RecordFunction&, at::ObserverContext*) {
  if (const auto log = current_log.load()) log->leave_module();
}

}  // namespace

MemoryLedger::MemoryLedger() : log_(std::make_shared<AllocationLog>()) {
  std::shared_ptr<AllocationLog> none;
  if (!current_log.compare_exchange_strong(none, log_)) {
    throw std::logic_error("MemoryLedger: there is one already");
  }
  ObservedAllocator& allocator = observed();
  if (c10::GetCPUAllocator() != &allocator) {
    if (c10::GetCPUAllocator() != allocator.real()) {
      current_log.store(nullptr);
      throw std::logic_error("MemoryLedger: another CPU allocator took over");
    }
    // The default's priority is 0; one as high as ours later would be lost.
    c10::SetCPUAllocator(&allocator, /*priority=*/1);
  }
  scopes_ = at::addGlobalCallback(
      at::RecordFunctionCallback(&enter_scope, &leave_scope)
          .scopes({at::RecordScope::USER_SCOPE}));
}

MemoryLedger::~MemoryLedger() {
  at::removeCallback(scopes_);
  current_log.store(nullptr);
}

void MemoryLedger::claim(const at::Tensor& tensor, MemoryCategory category) {
  if (!tensor.defined() || !tensor.is_cpu()) return;
  const void* address = tensor.storage().data();
  if (address != nullptr) log_->claim(address, category);
}

AllocationLog& MemoryLedger::log() {
  return *log_;
}

std::int64_t MemoryLedger::live_bytes() const {
  return log_->live_bytes();
}

MemoryReport MemoryLedger::report(std::size_t points) const {
  return log_->report(points);
}

MemoryPhase::MemoryPhase(MemoryLedger* ledger, const std::string& name,
                         bool saves)
    : ledger_(ledger) {
  if (ledger_ != nullptr) ledger_->log().begin_phase(name, saves);
}

MemoryPhase::~MemoryPhase() {
  if (ledger_ != nullptr) ledger_->log().end_phase();
}

MemoryModule::MemoryModule(MemoryLedger* ledger, const std::string& name)
    : ledger_(ledger) {
  if (ledger_ != nullptr) ledger_->log().enter_module(name);
}

MemoryModule::~MemoryModule() {
  if (ledger_ != nullptr) ledger_->log().leave_module();
}

}  // namespace dai::intro
