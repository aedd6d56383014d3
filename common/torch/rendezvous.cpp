// SPDX-License-Identifier: Apache-2.0
#include "common/torch/rendezvous.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <fstream>
#include <future>
#include <memory>
#include <thread>

#include "common/app.h"
#include "common/errors.h"
#include "common/file.h"
#include "common/torch/c10d_compat.h"
#include "common/torch/network_address.h"

namespace dai {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

// How long the store waits for the others' goodbye. They have all passed the
// last barrier by then, so this is about scheduling, not about work.
constexpr milliseconds kGoodbye{2000};

double seconds(milliseconds time) {
  return std::chrono::duration<double>(time).count();
}

milliseconds remaining(Clock::time_point deadline) {
  return std::max(milliseconds(1), std::chrono::duration_cast<milliseconds>(
                                       deadline - Clock::now()));
}

// PyTorch's store warns on stderr of every failed attempt; our one line says
// more. Its errors stay, and TORCH_CPP_LOG_LEVEL brings the rest back.
void quiet_torch_log() {
  if (!std::getenv("TORCH_CPP_LOG_LEVEL")) FLAGS_caffe2_log_level = 2;
}

StorePtr serve(const LaunchContext& launch, const std::string& host,
               milliseconds timeout) {
  ::c10d::TCPStoreOptions options;
  options.port = static_cast<std::uint16_t>(launch.master_port);
  options.isServer = true;
  options.waitWorkers = false;  // roll_call names who is missing
  options.timeout = timeout;
  options.masterListenFd = launch.master_listen_fd;
  if (launch.master_listen_fd) {
    // Ours alone: a child that kept it would keep the port open after us.
    fcntl(*launch.master_listen_fd, F_SETFD, FD_CLOEXEC);
  }
  try {
    return c10::make_intrusive<::c10d::TCPStore>(host, options);
  } catch (const c10::Error& e) {
    const std::string text = e.what_without_backtrace();
    const bool taken = text.find("EADDRINUSE") != std::string::npos;
    throw std::runtime_error(fmt::format(
        "rank 0 cannot serve on port {}: {}", launch.master_port,
        taken ? "another process listens there; choose another MASTER_PORT"
              : text.substr(0, text.find('\n'))));
  }
}

// TCPStore retries for longer than it is told to, and waits for ever for the
// first answer of a listener that is no store: hence the thread, which is left
// behind in that case.
StorePtr join(const LaunchContext& launch, const std::string& host, int port,
              milliseconds timeout) {
  ::c10d::TCPStoreOptions options;
  options.port = static_cast<std::uint16_t>(port);
  options.waitWorkers = false;
  options.timeout = timeout;
  const auto deadline = Clock::now() + timeout;
  if (wait_for_port(host, port, timeout)) {
    auto connecting = std::make_shared<std::promise<StorePtr>>();
    std::future<StorePtr> store = connecting->get_future();
    std::thread([connecting, host, options] {
      try {
        connecting->set_value(
            c10::make_intrusive<::c10d::TCPStore>(host, options));
      } catch (...) {
        connecting->set_exception(std::current_exception());
      }
    }).detach();
    try {
      if (store.wait_until(deadline) == std::future_status::ready) {
        return store.get();
      }
      request_fast_exit();
    } catch (const c10::Error&) {
      // It spoke another language.
    }
  }
  throw std::runtime_error(
      fmt::format("rank {} found no store of rank 0 at {}:{} within {} s",
                  launch.rank, host, port, seconds(timeout)));
}

// Rank 0 is told no port: it takes a free one and leaves its number in a file.
StorePtr serve_at_meeting(const LaunchContext& launch, milliseconds timeout) {
  LaunchContext free_port = launch;
  free_port.master_port = 0;
  StorePtr store = serve(free_port, "127.0.0.1", timeout);
  write_file_atomically(
      launch.meeting_file,
      fmt::format("{}\n", static_cast<::c10d::TCPStore&>(*store).getPort()));
  return store;
}

// A file of an earlier job may lie there until rank 0 has replaced it, so each
// failed attempt reads it anew.
StorePtr join_at_meeting(const LaunchContext& launch, milliseconds timeout) {
  const auto deadline = Clock::now() + timeout;
  while (Clock::now() < deadline) {
    int port = 0;
    if (std::ifstream(launch.meeting_file) >> port) {
      try {
        StorePtr store =
            join(launch, "127.0.0.1", port,
                 std::min(milliseconds(1000), remaining(deadline)));
        store->setTimeout(timeout);
        return store;
      } catch (const std::runtime_error&) {
        // An old number; rank 0 has not written its own yet.
      }
    }
    std::this_thread::sleep_for(milliseconds(10));
  }
  throw std::runtime_error(
      fmt::format("rank 0 did not open a store at {} within {} s",
                  launch.meeting_file, seconds(timeout)));
}

std::string rank_list(const std::vector<int>& ranks) {
  return fmt::format("{} {}", ranks.size() == 1 ? "rank" : "ranks",
                     fmt::join(ranks, ", "));
}

std::string first_line(const std::string& text) {
  return text.substr(0, text.find('\n'));
}

// "kind\ntext", as the second roll call carries it.
enum class Verdict { kReady, kUnavailable, kUsage, kFailed };
constexpr const char* kVerdictNames[] = {"ready", "unavailable", "usage",
                                         "failed"};

[[noreturn]] void throw_as(Verdict verdict, const std::string& text) {
  if (verdict == Verdict::kUsage) throw UsageError(text);
  if (verdict == Verdict::kUnavailable) throw Unavailable(text);
  throw std::runtime_error(text);
}

}  // namespace

StorePtr open_store(const LaunchContext& launch, milliseconds timeout) {
  quiet_torch_log();
  if (launch.world_size == 1) return c10::make_intrusive<::c10d::HashStore>();
  if (launch.master_addr.empty()) {
    return launch.rank == 0 ? serve_at_meeting(launch, timeout)
                            : join_at_meeting(launch, timeout);
  }
  if (launch.rank == 0 && !launch.agent_store) {
    wait_for_name(launch.master_addr, timeout);
    return serve(launch, launch.master_addr, timeout);
  }
  StorePtr store =
      join(launch, launch.master_addr, launch.master_port, timeout);
  if (!launch.agent_store) return store;
  // The agent's store outlives a restart: keep the attempts' keys apart.
  return c10::make_intrusive<::c10d::PrefixStore>(
      fmt::format("dai/{}", launch.restart_count), store);
}

std::vector<std::string> roll_call(
    ::c10d::Store& store, const LaunchContext& launch, const std::string& topic,
    const std::string& verb, const std::string& mine, milliseconds timeout,
    const std::function<void(int, const std::string&)>& check) {
  const auto key = [&](int rank) { return fmt::format("{}/{}", topic, rank); };
  const auto deadline = Clock::now() + timeout;
  std::vector<std::string> heard(launch.world_size);
  std::vector<int> missing;
  try {
    store.set(key(launch.rank), mine);
    for (int rank = 0; rank < launch.world_size; ++rank) {
      try {
        store.wait({key(rank)}, remaining(deadline));
      } catch (const c10::DistStoreError&) {
        missing.push_back(rank);
        continue;
      }
      heard[rank] = store.get_to_str(key(rank));
      if (check) check(rank, heard[rank]);
    }
  } catch (const c10::DistNetworkError&) {
    throw std::runtime_error(
        "the connection to rank 0's store broke: did rank 0 die?");
  }
  if (!missing.empty()) {
    throw std::runtime_error(fmt::format("{} did not {} within {} s",
                                         rank_list(missing), verb,
                                         seconds(timeout)));
  }
  return heard;
}

std::vector<std::string> agree_on_launch(::c10d::Store& store,
                                         const LaunchContext& launch,
                                         const std::string& fingerprint,
                                         milliseconds timeout) {
  const auto check = [&](int rank, const std::string& said) {
    const int world_size = std::stoi(said);
    if (world_size != launch.world_size) {
      throw UsageError(
          fmt::format("rank {} was launched with WORLD_SIZE={}, rank {} with "
                      "WORLD_SIZE={}",
                      launch.rank, launch.world_size, rank, world_size));
    }
    const std::string other = said.substr(said.rfind('\n') + 1);
    if (other != first_line(fingerprint)) {
      throw UsageError(fmt::format("rank {} runs \"{}\", rank {} runs \"{}\"",
                                   launch.rank, first_line(fingerprint), rank,
                                   other));
    }
  };
  std::vector<std::string> said =
      roll_call(store, launch, "arrived", "arrive",
                fmt::format("{}\n{}\n{}", launch.world_size, launch.host,
                            first_line(fingerprint)),
                timeout, check);
  for (std::string& one : said) {
    const auto begin = one.find('\n') + 1;
    one = one.substr(begin, one.find('\n', begin) - begin);
  }
  return said;
}

void agree_on_start(::c10d::Store& store, const LaunchContext& launch,
                    const std::function<std::string()>& prepare,
                    milliseconds timeout) {
  Verdict verdict = Verdict::kReady;
  std::string text;
  std::exception_ptr own;
  try {
    text = prepare();
  } catch (const UsageError& e) {
    verdict = Verdict::kUsage, text = e.what(), own = std::current_exception();
  } catch (const Unavailable& e) {
    verdict = Verdict::kUnavailable, text = e.what();
    own = std::current_exception();
  } catch (const std::exception& e) {
    verdict = Verdict::kFailed, text = e.what(), own = std::current_exception();
  }
  const auto said =
      roll_call(store, launch, "ready", "get ready",
                fmt::format("{}\n{}", kVerdictNames[static_cast<int>(verdict)],
                            first_line(text)),
                timeout);
  if (own) {
    // Ranks with the same trouble say it once, with the voice of the lowest.
    const auto same = std::find(said.begin(), said.end(), said[launch.rank]);
    if (same - said.begin() < launch.rank && launch.supervised) {
      let_another_rank_speak();
    }
    std::rethrow_exception(own);
  }

  // Of several failures the worst is everybody's: failed, usage, unavailable.
  for (const Verdict bad :
       {Verdict::kFailed, Verdict::kUsage, Verdict::kUnavailable}) {
    for (int rank = 0; rank < launch.world_size; ++rank) {
      const std::string name = first_line(said[rank]);
      if (name != kVerdictNames[static_cast<int>(bad)]) continue;
      if (launch.supervised) let_another_rank_speak();  // that one
      throw_as(bad, fmt::format("rank {}: {}", rank,
                                said[rank].substr(name.size() + 1)));
    }
  }
  for (int rank = 0; rank < launch.world_size; ++rank) {
    const std::string other = said[rank].substr(said[rank].find('\n') + 1);
    if (other != first_line(text)) {
      throw UsageError(fmt::format("rank {} runs {}, rank {} runs {}",
                                   launch.rank, first_line(text), rank, other));
    }
  }
}

void say_goodbye(::c10d::Store& store, const LaunchContext& launch) {
  try {
    if (store.add("left", 1) == launch.world_size)
      store.set("all left", std::string("yes"));
    if (launch.rank == 0) store.wait({"all left"}, kGoodbye);
  } catch (const c10::Error&) {
    // Somebody is dead, or rank 0 gave up waiting: nothing is left to ask.
  }
}

}  // namespace dai
