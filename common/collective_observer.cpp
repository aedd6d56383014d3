// SPDX-License-Identifier: Apache-2.0
#include "common/collective_observer.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <list>
#include <mutex>
#include <utility>

#include "common/rank_status.h"

namespace dai {
namespace {

class RankStatusObserver : public CollectiveObserver {
 public:
  explicit RankStatusObserver(std::unique_ptr<RankStatusWriter> writer)
      : writer_(std::move(writer)) {}

  // Of several collectives in flight (Reducer's buckets) the status names the
  // oldest: that is the one a missing peer holds up.
  void on_begin(const CollectiveEvent& event) override {
    std::lock_guard lock(mutex_);
    in_flight_.emplace_back(event.label(), event.to_string());
    if (in_flight_.size() == 1) writer_->set(in_flight_.front().second);
  }

  void on_end(const CollectiveEvent& event, std::exception_ptr error) override {
    // The failed collective stays the rank's last word for the launcher.
    if (error) return;
    std::lock_guard lock(mutex_);
    const bool was_oldest = in_flight_.front().first == event.label();
    in_flight_.remove_if([label = event.label()](const auto& one) {
      return one.first == label;
    });
    if (in_flight_.empty()) {
      writer_->leave();
    } else if (was_oldest) {
      writer_->set(in_flight_.front().second);
    }
  }

 private:
  std::mutex mutex_;
  std::list<std::pair<std::string, std::string>> in_flight_;
  std::unique_ptr<RankStatusWriter> writer_;
};

}  // namespace

thread_local const std::string* CallSubject::current_ = nullptr;

std::string CollectiveEvent::label() const {
  return fmt::format("{} #{}", op, sequence);
}

std::string CollectiveEvent::to_string() const {
  std::vector<std::string> details;
  if (!dtype.empty()) {
    details.push_back(fmt::format("{}[{}]", dtype, fmt::join(shape, ", ")));
  }
  if (tensors > 1) {
    details.push_back(fmt::format("{} tensors, {} bytes", tensors, bytes));
  }
  if (!reduce_op.empty()) details.push_back(reduce_op);
  if (root >= 0) details.push_back(fmt::format("root {}", root));
  if (op == "send") details.push_back(fmt::format("to rank {}", peer));
  if (op == "recv") {
    details.push_back(peer < 0 ? "from any rank"
                               : fmt::format("from rank {}", peer));
  }
  if (!subject.empty()) details.push_back(subject);
  if (!where.empty()) details.push_back(fmt::format("at {}", where));
  if (details.empty()) return label();
  return fmt::format("{} ({})", label(), fmt::join(details, ", "));
}

std::shared_ptr<CollectiveObserver> make_rank_status_observer(
    const LaunchContext& launch) {
  auto writer = RankStatusWriter::from_environment(launch.rank);
  if (!writer) return nullptr;
  return std::make_shared<RankStatusObserver>(std::move(writer));
}

}  // namespace dai
