// SPDX-License-Identifier: Apache-2.0
#pragma once

// Asks, before a collective is issued, whether the ranks that came before had
// the same in mind: one round trip to the store, nobody is waited for.
//
//   handshake.agree(7, call.signature());   // true: issue it
//
// The first rank to call #7 writes what it is about to do; the others find it
// there and compare. Whoever differs does not issue its call, so that Gloo
// never meets two that do not fit: it would abort the process for some, and for
// two reduce operations return wrong sums without a word. After the first
// refusal everything is refused, since backends count their calls themselves.
//
// Keys are used again after kSlots calls, so that the store does not grow. No
// rank may be kSlots calls ahead of another.

#include <c10/util/intrusive_ptr.h>

#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

namespace c10d {
class Store;
}

namespace dai::ddp {

class Handshake {
 public:
  static constexpr std::uint64_t kSlots = 4096;

  // A store of its own: ::c10d::Store::clone(). `name` keeps keys apart.
  Handshake(c10::intrusive_ptr<::c10d::Store> store, std::string name);
  ~Handshake();

  // `sequence` counts up. Throws std::runtime_error where the store is gone.
  bool agree(std::uint64_t sequence, const std::string& signature);

 private:
  std::mutex mutex_;
  c10::intrusive_ptr<::c10d::Store> store_;
  const std::string name_;
  std::vector<std::string> written_;  // by slot: what lies there
  bool doomed_ = false;
};

}  // namespace dai::ddp
