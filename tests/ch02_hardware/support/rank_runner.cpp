// SPDX-License-Identifier: Apache-2.0
#include "tests/ch02_hardware/support/rank_runner.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstring>
#include <stdexcept>
#include <thread>

#include "ch02_hardware/transport/shm_transport.h"
#include "ch02_hardware/transport/tcp_transport.h"

namespace dai::hardware::testing {
namespace {

constexpr int kMostRanks = 16;
constexpr int kMostMeetings = 4;

// Forked ranks talk through it before they have a transport, and say through it
// how they ended.
struct Board {
  char texts[kMostMeetings][kMostRanks][256];
  std::atomic<int> arrived[kMostMeetings];
  char said[kMostRanks][1024];
  std::atomic<int> stalled;
  std::atomic<int> ended;
  int ranks;
};
Board* my_board = nullptr;  // in a forked rank

Bootstrap bootstrap_on(Board& board, int rank, int ranks) {
  return [&board, rank, ranks, meeting = 0](const std::string& mine) mutable {
    std::snprintf(board.texts[meeting][rank], 256, "%s", mine.c_str());
    board.arrived[meeting].fetch_add(1);
    while (board.arrived[meeting].load() < ranks) usleep(100);
    std::vector<std::string> all;
    for (int r = 0; r < ranks; ++r) all.push_back(board.texts[meeting][r]);
    ++meeting;
    return all;
  };
}

std::string run_and_catch(Transport& transport,
                          const std::function<void(Transport&)>& body) {
  try {
    body(transport);
    return "";
  } catch (const std::exception& error) {
    return error.what();
  }
}

std::vector<std::string> on_threads(
    const RunSpec& spec, const std::function<void(Transport&)>& body) {
  ShmOptions options;
  options.timeout = spec.timeout;
  options.cross_memory_attach = spec.medium == Medium::kThreads;
  auto transports = thread_transports(spec.ranks, options);
  std::vector<std::string> said(spec.ranks);
  std::vector<std::thread> threads;
  for (int rank = 0; rank < spec.ranks; ++rank) {
    threads.emplace_back([&, rank] {
      said[rank] = run_and_catch(*transports[rank], body);
      transports[rank].reset();
    });
  }
  for (auto& thread : threads) thread.join();
  return said;
}

TcpOptions tcp_options(const RunSpec& spec, int rank) {
  TcpOptions options;
  options.rank = rank;
  options.size = spec.ranks;
  options.timeout = spec.timeout;
  options.ranks_on_node = spec.ranks;
  return options;
}

// As if the ranks took turns between two nodes: what is hierarchical has
// something to do, with an odd number unevenly.
std::vector<int> two_nodes(const RunSpec& spec) {
  std::vector<int> nodes;
  for (int rank = 0; rank < spec.ranks; ++rank) nodes.push_back(rank % 2);
  return nodes;
}

[[noreturn]] void be_rank(const RunSpec& spec, int rank, Board& board,
                          const std::function<void(Transport&)>& body) {
  std::string said;
  my_board = &board;
  try {
    ShmOptions options;
    options.timeout = spec.timeout;
    options.cross_memory_attach = spec.medium == Medium::kShm;
    const Bootstrap bootstrap = bootstrap_on(board, rank, spec.ranks);
    const auto transport =
        spec.medium == Medium::kTcp
            ? connect_tcp(tcp_options(spec, rank), bootstrap, two_nodes(spec))
            : connect_shm(rank, spec.ranks, bootstrap, options);
    said = run_and_catch(*transport, body);
  } catch (const std::exception& error) {
    said = error.what();
  }
  std::snprintf(board.said[rank], sizeof board.said[rank], "%s", said.c_str());
  _exit(0);
}

std::vector<std::string> on_processes(
    const RunSpec& spec, const std::function<void(Transport&)>& body) {
  void* const shared = mmap(nullptr, sizeof(Board), PROT_READ | PROT_WRITE,
                            MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (shared == MAP_FAILED) throw std::runtime_error("mmap");
  Board& board = *static_cast<Board*>(shared);
  board.ranks = spec.ranks;
  std::vector<pid_t> children;
  std::fflush(nullptr);
  for (int rank = 0; rank < spec.ranks; ++rank) {
    const pid_t child = fork();
    if (child < 0) throw std::runtime_error("fork");
    if (child == 0) be_rank(spec, rank, board, body);
    children.push_back(child);
  }
  // In the order in which they end: a rank may wait for the others' end.
  std::vector<std::string> said(spec.ranks);
  for (int ended = 0; ended < spec.ranks; ++ended) {
    int status = 0;
    const pid_t child = waitpid(-1, &status, 0);
    board.ended.fetch_add(1);
    for (int rank = 0; rank < spec.ranks; ++rank) {
      if (children[rank] != child) continue;
      said[rank] = WIFSIGNALED(status)
                       ? "ended by signal " + std::to_string(WTERMSIG(status))
                       : board.said[rank];
    }
  }
  munmap(shared, sizeof(Board));
  return said;
}

}  // namespace

const char* to_string(Medium medium) {
  switch (medium) {
    case Medium::kThreads:
      return "threads";
    case Medium::kThreadStreams:
      return "threads, streams only";
    case Medium::kShm:
      return "shm";
    case Medium::kShmStreams:
      return "shm, streams only";
    case Medium::kTcp:
      return "tcp";
  }
  return "unknown";
}

std::vector<std::string> on_ranks(const RunSpec& spec,
                                  const std::function<void(Transport&)>& body) {
  const bool threads =
      spec.medium == Medium::kThreads || spec.medium == Medium::kThreadStreams;
  return threads ? on_threads(spec, body) : on_processes(spec, body);
}

void stall_until_others_end() {
  my_board->stalled.fetch_add(1);
  while (my_board->ended.load() + my_board->stalled.load() < my_board->ranks) {
    usleep(1000);
  }
  _exit(0);
}

void expect(bool holds, const std::string& what) {
  if (!holds) throw std::runtime_error(what);
}

}  // namespace dai::hardware::testing
