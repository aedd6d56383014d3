// SPDX-License-Identifier: Apache-2.0

// Exchanges, and what the media promise beyond what algorithms ask for.

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <numeric>
#include <thread>

#include "ch02_hardware/transport/group_view.h"
#include "ch02_hardware/transport/message_engine.h"
#include "ch02_hardware/transport/node_transport.h"
#include "tests/ch02_hardware/support/rank_runner.h"

namespace dai::hardware::testing {
namespace {

using ::testing::Each;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using namespace std::chrono_literals;

struct OnMedium : ::testing::TestWithParam<Medium> {};

// Larger than any buffer, both ways at once: whoever sends first and receives
// later waits for ever.
TEST_P(OnMedium, LargeMessagesCross) {
  const auto said =
      on_ranks({.medium = GetParam(), .ranks = 3}, [](Transport& t) {
        const std::size_t n = 5'000'000;
        std::vector<int> out(n, t.rank()), left(n), right(n);
        const int l = (t.rank() + 2) % 3, r = (t.rank() + 1) % 3;
        t.begin({});
        const Outgoing outs[] = {{l, out.data(), 4 * n},
                                 {r, out.data(), 4 * n}};
        const Incoming ins[] = {{l, left.data(), 4 * n},
                                {r, right.data(), 4 * n}};
        t.exchange(outs, ins);
        expect(left == std::vector<int>(n, l), "from the left");
        expect(right == std::vector<int>(n, r), "from the right");
      });
  EXPECT_THAT(said, Each(IsEmpty()));
}

// Odd sizes put what follows at odd places; elements must not be cut.
TEST_P(OnMedium, ElementsAreNeverCut) {
  const auto said =
      on_ranks({.medium = GetParam(), .ranks = 2}, [](Transport& t) {
        t.begin({});
        const int peer = 1 - t.rank();
        for (const std::size_t odd : {1u, 3u, 61u, 65u, 32769u, 100003u}) {
          std::vector<char> bytes(odd, 'x'), come(odd);
          t.exchange({peer, bytes.data(), odd}, {peer, come.data(), odd});
          expect(come == bytes, "bytes");
          const std::size_t n = 70001;
          std::vector<double> mine(n, 2), sum(n, 0);
          const Combine add{DType::kFloat64, ReduceOp::kSum, mine.data()};
          t.exchange({peer, mine.data(), 8 * n},
                     {peer, sum.data(), 8 * n, &add});
          expect(sum == std::vector<double>(n, 4), "sums");
        }
      });
  EXPECT_THAT(said, Each(IsEmpty()));
}

// What is combined first is who says so.
TEST_P(OnMedium, TheOrderOfACombinationIsTheCallers) {
  const auto said =
      on_ranks({.medium = GetParam(), .ranks = 2}, [](Transport& t) {
        t.begin({});
        const int peer = 1 - t.rank();
        // A minimum of +0 and -0 is whichever comes second here.
        const float mine = t.rank() == 0 ? 0.0f : -0.0f;
        float lowest = 1;
        const Combine one{DType::kFloat32, ReduceOp::kMin, &mine,
                          /*received_first=*/peer < t.rank()};
        t.exchange({peer, &mine, 4}, {peer, &lowest, 4, &one});
        std::uint32_t bits;
        std::memcpy(&bits, &lowest, 4);
        expect(bits == 0x80000000u, "ranks disagree on the sign of zero");
      });
  EXPECT_THAT(said, Each(IsEmpty()));
}

// Thousands of messages shorter than a cache line, each at a line of its own,
// then more than any buffer holds to a rank that is not looking.
TEST_P(OnMedium, ManyShortMessagesLeaveTheBuffersInOrder) {
  const auto said =
      on_ranks({.medium = GetParam(), .ranks = 2}, [](Transport& t) {
        t.begin({});
        const std::size_t n = 300'000;
        std::vector<int> large(n, 0);
        if (t.rank() == 0) {
          std::iota(large.begin(), large.end(), 0);
          for (int i = 0; i < 20'000; ++i) t.send(1, &i, 1 + i % 4);
          t.send(1, large.data(), 4 * n);
        } else {
          for (int i = 0; i < 20'000; ++i) {
            int come = 0;
            t.receive(0, &come, 1 + i % 4);
            const int mask = i % 4 == 3 ? -1 : (1 << 8 * (1 + i % 4)) - 1;
            expect(come == (i & mask), "short message " + std::to_string(i));
          }
          std::this_thread::sleep_for(50ms);
          t.receive(0, large.data(), 4 * n);
          for (std::size_t i = 0; i < n; ++i) {
            expect(large[i] == static_cast<int>(i), "the large message");
          }
        }
      });
  EXPECT_THAT(said, Each(IsEmpty()));
}

// A slot must not be written while a rank that has fallen behind still reads
// what was in it: the fast one sends only in between, and waits for nobody.
TEST_P(OnMedium, ASlotIsNotWrittenBeforeAllHaveReadIt) {
  const auto said =
      on_ranks({.medium = GetParam(), .ranks = 2}, [](Transport& t) {
        SharedWindow* const window = t.window();
        if (!window) return;
        for (char round = 1; round < 4; ++round) {
          std::memset(window->next_slot(), round, 64);
          t.begin({});
          t.wait_for_all();
          if (t.rank() == 1) std::this_thread::sleep_for(20ms);
          expect(window->slot(0)[5] == static_cast<std::byte>(round),
                 "the slot of round " + std::to_string(round));
          t.begin({});  // one in which rank 0 hears nothing
          char token = 0;
          if (t.rank() == 0)
            t.send(1, &token, 1);
          else
            t.receive(0, &token, 1);
        }
      });
  EXPECT_THAT(said, Each(IsEmpty()));
}

TEST_P(OnMedium, AGroupCountsItsRanksAnew) {
  const auto said =
      on_ranks({.medium = GetParam(), .ranks = 4}, [](Transport& t) {
        t.begin({});
        if (t.rank() == 1) return;
        GroupView odd(t, {3, 0, 2});
        expect(odd.size() == 3, "size");
        const int next = (odd.rank() + 1) % 3, previous = (odd.rank() + 2) % 3;
        int come = -1;
        const int mine = odd.rank();
        odd.exchange({next, &mine, 4}, {previous, &come, 4});
        expect(come == previous, "neighbour");
      });
  EXPECT_THAT(said, Each(IsEmpty()));
}

INSTANTIATE_TEST_SUITE_P(Media, OnMedium, ::testing::ValuesIn(kAllMedia),
                         [](const auto& info) {
                           return std::string(1, 'a' + info.index);
                         });

// A bootstrap among threads of this test.
class Meeting {
 public:
  explicit Meeting(int ranks) : ranks_(ranks), texts_(8, Texts(ranks)) {}
  Bootstrap of(int rank) {
    return [this, rank, turn = 0](const std::string& mine) mutable {
      texts_[turn][rank] = mine;
      arrived_[turn].fetch_add(1);
      while (arrived_[turn].load() < ranks_) std::this_thread::yield();
      return texts_[turn++];
    };
  }

 private:
  using Texts = std::vector<std::string>;
  const int ranks_;
  std::vector<Texts> texts_;
  std::atomic<int> arrived_[8] = {};
};

TcpOptions tcp(int rank, int size) {
  TcpOptions options;
  options.rank = rank;
  options.size = size;
  options.timeout = 5s;
  return options;
}

void knock(int port, const std::string& words) {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in where{};
  where.sin_family = AF_INET;
  where.sin_port = htons(static_cast<std::uint16_t>(port));
  where.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (connect(fd, reinterpret_cast<sockaddr*>(&where), sizeof where) == 0) {
    (void)!send(fd, words.data(), words.size(), MSG_NOSIGNAL);
  }
  close(fd);
}

// Whoever finds the port and has no key is sent away, and disturbs nobody.
TEST(Tcp, StrangersAreSentAway) {
  Meeting meeting(2);
  std::vector<std::string> said(2);
  std::vector<std::thread> ranks;
  for (int rank = 0; rank < 2; ++rank) {
    ranks.emplace_back([&, rank] {
      try {
        const Bootstrap all = meeting.of(rank);
        const Bootstrap disturbed = [&](const std::string& mine) {
          const auto texts = all(mine);
          const int port = std::stoi(texts[0]);
          if (rank == 1) {
            knock(port, "");
            knock(port, "GET / HTTP/1.1\r\nHost: everybody\r\n\r\n");
            knock(port, std::string(16, '\0'));
          }
          return texts;
        };
        const auto t = connect_tcp(tcp(rank, 2), disturbed);
        t->begin({});
        int come = -1;
        t->exchange({1 - rank, &rank, 4}, {1 - rank, &come, 4});
        expect(come == 1 - rank, "wrong rank");
      } catch (const std::exception& error) {
        said[rank] = error.what();
      }
    });
  }
  for (auto& rank : ranks) rank.join();
  EXPECT_THAT(said, Each(IsEmpty()));
}

TEST(Tcp, ARankThatNeverComesIsNamedWithinTheTimeOut) {
  TcpOptions options = tcp(0, 3);
  options.timeout = 300ms;
  const Bootstrap alone = [](const std::string& mine) {
    return std::vector<std::string>{mine, "1 1 127.0.0.1", "1 1 127.0.0.1"};
  };
  try {
    connect_tcp(options, alone);
    FAIL() << "connected to nobody";
  } catch (const std::runtime_error& error) {
    EXPECT_THAT(error.what(),
                HasSubstr("ranks 1, 2 did not connect to rank 0"));
  }
  options.rank = 1;  // and this one calls on rank 0, who is not there
  const Bootstrap nobody = [](const std::string& mine) {
    return std::vector<std::string>{"1 1 127.0.0.1", mine, "1 1 127.0.0.1"};
  };
  try {
    connect_tcp(options, nobody);
    FAIL() << "connected to nobody";
  } catch (const std::runtime_error& error) {
    EXPECT_THAT(error.what(), HasSubstr("rank 1 cannot reach rank 0 at"));
  }
}

TEST(Node, MemoryOfSeveralNodesIsRefused) {
  NodeOptions options;
  options.size = 2;
  options.nodes = {0, 1};
  options.medium = hardware::Medium::kShm;
  EXPECT_THROW(connect_nodes(options, {}), std::runtime_error);
}

// Messages with tags, where a peer goes away in the middle.
TEST(MessageEngine, APeerThatLeavesFailsWhatWaitsForIt) {
  Meeting meeting(2);
  std::string said;
  std::thread leaver([&] {
    MessageEngine engine(1, 2, connect_tcp_channels(tcp(1, 2), meeting.of(1)),
                         5s);
    const int word = 7;
    std::atomic<bool> sent{false};
    engine.send(0, 3, &word, 4, [&](std::exception_ptr, int) { sent = true; });
    while (!sent) std::this_thread::yield();
  });
  MessageEngine engine(0, 2, connect_tcp_channels(tcp(0, 2), meeting.of(0)),
                       5s);
  int word = 0, never = 0;
  std::atomic<int> done{0};
  engine.receive(1, 3, &word, 4, [&](std::exception_ptr error, int source) {
    if (!error && source == 1) ++done;
  });
  while (done < 1) std::this_thread::yield();
  EXPECT_EQ(word, 7);
  engine.receive(1, 3, &never, 4, [&](std::exception_ptr error, int) {
    try {
      if (error) std::rethrow_exception(error);
    } catch (const PeerError& e) {
      said = e.what();
    }
    ++done;
  });
  leaver.join();
  while (done < 2) std::this_thread::yield();
  EXPECT_EQ(said, "rank 1 left the group");
}

TEST(MessageEngine, SilenceEndsAtTheTimeOut) {
  Meeting meeting(2);
  std::atomic<bool> over{false};
  std::thread silent([&] {
    MessageEngine engine(1, 2, connect_tcp_channels(tcp(1, 2), meeting.of(1)),
                         5s);
    while (!over) std::this_thread::sleep_for(1ms);
  });
  std::string said;
  {
    MessageEngine engine(0, 2, connect_tcp_channels(tcp(0, 2), meeting.of(0)),
                         200ms);
    int word = 0;
    std::atomic<bool> done{false};
    engine.receive(1, 0, &word, 4, [&](std::exception_ptr error, int) {
      try {
        std::rethrow_exception(error);
      } catch (const PeerError& e) {
        said = e.what();
      }
      done = true;
    });
    while (!done) std::this_thread::sleep_for(1ms);
  }
  over = true;
  silent.join();
  EXPECT_EQ(said, "nothing came from rank 1 for 0.2 s");
}

// A receiver of 8 MB that stops in the middle: the message that broke off
// fails, and so do those behind it, instead of being read as its rest.
TEST(MessageEngine, AMessageThatBreaksOffEndsTheWayToThatPeer) {
  Meeting meeting(2);
  std::atomic<bool> over{false};
  std::thread deaf([&] {
    const auto channels = connect_tcp_channels(tcp(1, 2), meeting.of(1));
    while (!over) std::this_thread::sleep_for(1ms);
  });
  std::vector<std::string> said(2);
  {
    MessageEngine engine(0, 2, connect_tcp_channels(tcp(0, 2), meeting.of(0)),
                         300ms);
    std::vector<char> large(64 << 20, 'x');
    std::atomic<int> done{0};
    for (int i = 0; i < 2; ++i) {
      engine.send(1, i, large.data(), large.size(),
                  [&, i](std::exception_ptr error, int) {
                    try {
                      if (error) std::rethrow_exception(error);
                    } catch (const std::exception& e) {
                      said[i] = e.what();
                    }
                    ++done;
                  });
    }
    while (done < 2) std::this_thread::sleep_for(1ms);
  }
  over = true;
  deaf.join();
  EXPECT_THAT(said, Each("rank 1 took nothing for 0.3 s"));
}

// Closing answers everybody, also who has half of a message.
TEST(MessageEngine, ClosingFailsWhatIsStillWaitedFor) {
  Meeting meeting(2);
  std::atomic<bool> over{false};
  std::thread half([&] {
    const auto channels = connect_tcp_channels(tcp(1, 2), meeting.of(1));
    // A header for 100 bytes of tag 4, and ten of them.
    const std::int64_t header[2] = {4, 100};
    std::byte data[10] = {};
    channels->try_send(0, reinterpret_cast<const std::byte*>(header), 16);
    channels->try_send(0, data, 10);
    while (!over) std::this_thread::sleep_for(1ms);
  });
  std::vector<std::string> said(2);
  char room[2][100];
  {
    MessageEngine engine(0, 2, connect_tcp_channels(tcp(0, 2), meeting.of(0)),
                         20s);
    for (int i = 0; i < 2; ++i) {
      engine.receive(1, 4 + i, room[i], 100,
                     [&, i](std::exception_ptr error, int) {
                       try {
                         if (error) std::rethrow_exception(error);
                       } catch (const std::exception& e) {
                         said[i] = e.what();
                       }
                     });
    }
    std::this_thread::sleep_for(100ms);
  }
  over = true;
  half.join();
  EXPECT_THAT(said, Each("the group was closed before this came"));
}

}  // namespace
}  // namespace dai::hardware::testing
