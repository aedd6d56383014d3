// SPDX-License-Identifier: Apache-2.0
// last_send_probe RANK ADDRESS FOLDER WAY BYTES: one of two ranks that meet in
// a folder. Rank 0's last act is to send, by a broadcast's algorithm or as a
// message ("message"); then it leaves, while the bytes are still on their way.
// For two_nodes_test.py, which gives them a slow link.

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <future>
#include <iterator>
#include <string>
#include <thread>
#include <vector>

#include "ch02_hardware/collectives/algorithms.h"
#include "ch02_hardware/transport/message_engine.h"
#include "ch02_hardware/transport/tcp_transport.h"

namespace dai::hardware {
namespace {

namespace fs = std::filesystem;

std::vector<std::string> meet(const fs::path& folder, int rank, int meeting,
                              const std::string& mine) {
  const auto place = [&](int who) {
    return folder / fmt::format("{}.{}", meeting, who);
  };
  const fs::path part = folder / fmt::format("part.{}", rank);
  std::ofstream(part) << mine;
  fs::rename(part, place(rank));
  std::vector<std::string> all;
  for (int who = 0; who < 2; ++who) {
    while (!fs::exists(place(who))) {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    std::ifstream file(place(who));
    all.emplace_back(std::istreambuf_iterator<char>(file),
                     std::istreambuf_iterator<char>());
  }
  return all;
}

void send_or_receive(MessageEngine& engine, int rank,
                     std::vector<std::uint8_t>& data) {
  std::promise<void> ended;
  const auto done = [&](std::exception_ptr error, int) {
    error ? ended.set_exception(error) : ended.set_value();
  };
  if (rank == 0) {
    engine.send(1, 0, data.data(), data.size(), done);
  } else {
    engine.receive(0, 0, data.data(), data.size(), done);
  }
  ended.get_future().get();
}

int run(int rank, const std::string& address, const std::string& folder,
        const std::string& way, std::size_t bytes) {
  int meeting = 0;
  const Bootstrap bootstrap = [&](const std::string& mine) {
    return meet(folder, rank, meeting++, mine);
  };
  TcpOptions options;
  options.timeout = std::chrono::seconds(20);
  options.rank = rank;
  options.size = 2;
  options.address = address;
  std::vector<std::uint8_t> data(bytes, rank == 0 ? 7 : 0);
  if (way == "message") {
    MessageEngine engine(rank, 2, connect_tcp_channels(options, bootstrap),
                         options.timeout);
    send_or_receive(engine, rank, data);
  } else {
    const auto transport = connect_tcp(options, bootstrap);
    Operands call;
    call.input = call.output = data.data();
    call.count = bytes;
    call.dtype = DType::kUInt8;
    call.root = 0;
    algorithm_by_name(Collective::kBroadcast, way).run(call, *transport);
  }
  const auto wrong = std::count_if(data.begin(), data.end(),
                                   [](std::uint8_t x) { return x != 7; });
  fmt::print("rank {}: {} of {} bytes wrong\n", rank, wrong, bytes);
  return wrong == 0 ? 0 : 1;
}

}  // namespace
}  // namespace dai::hardware

int main(int argc, char** argv) {
  if (argc != 6) return 2;
  try {
    return dai::hardware::run(std::atoi(argv[1]), argv[2], argv[3], argv[4],
                              std::strtoull(argv[5], nullptr, 10));
  } catch (const std::exception& error) {
    fmt::print("rank {}: {}\n", argv[1], error.what());
    return 1;
  }
}
