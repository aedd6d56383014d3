// SPDX-License-Identifier: Apache-2.0
// The server against scripted agents, all on one loop: who gets which ranks,
// who is refused, and what a loss, a failure or a latecomer leads to.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <deque>

#include "common/launch/rendezvous_client.h"
#include "common/launch/rendezvous_server.h"

namespace dai::launch {
namespace {

using ::testing::HasSubstr;
using Json = LineSocket::Json;

// Written here, plainly, rather than taken from the client under test.
Json join(int nproc, int node_rank = -1, const std::string& host = "h") {
  return {{"type", "join"}, {"protocol", 1},         {"run_id", "job"},
          {"min_nodes", 1}, {"max_nodes", 2},        {"host", host},
          {"nproc", nproc}, {"node_rank", node_rank}};
}

class Rendezvous : public ::testing::Test {
 protected:
  void serve(int min_nodes, int max_nodes, int max_restarts = 0) {
    options_.rdzv_id = "job";
    options_.min_nodes = min_nodes;
    options_.max_nodes = max_nodes;
    options_.max_restarts = max_restarts;
    UniqueFd listener = listen_on("127.0.0.1", 0);
    port_ = local_port(listener.get());
    server_ = std::make_unique<RendezvousServer>(loop_, std::move(listener),
                                                 options_);
  }

  // One agent, as seen from outside: what it was sent, and whether it is cut.
  struct Peer {
    std::unique_ptr<LineSocket> socket;
    std::deque<Json> inbox;
    bool cut = false;
  };
  std::unique_ptr<Peer> peer() {
    auto p = std::make_unique<Peer>();
    Peer* raw = p.get();
    p->socket = std::make_unique<LineSocket>(
        loop_, connect_to("127.0.0.1", port_, std::chrono::seconds(5)),
        [raw](const Json& m) {
          if (m.at("type") != "heartbeat") raw->inbox.push_back(m);
        },
        [raw](const std::string&) { raw->cut = true; });
    return p;
  }
  std::unique_ptr<Peer> joined(Json message) {
    message["min_nodes"] = options_.min_nodes;
    message["max_nodes"] = options_.max_nodes;
    auto p = peer();
    p->socket->send(message);
    EXPECT_EQ(next(*p).value("type", ""), "joined");
    return p;
  }

  bool until(const std::function<bool()>& condition) {
    const auto end = EventLoop::Clock::now() + std::chrono::seconds(20);
    while (!condition() && EventLoop::Clock::now() < end) {
      loop_.run_once(EventLoop::Duration(0.05));
    }
    return condition();
  }
  Json next(Peer& p) {
    if (!until([&] { return !p.inbox.empty(); })) return Json::object();
    Json message = p.inbox.front();
    p.inbox.pop_front();
    return message;
  }
  Json next(Peer& p, const std::string& type) {
    const Json message = next(p);
    EXPECT_EQ(message.value("type", ""), type) << message;
    return message;
  }
  void send(Peer& p, const std::string& type, int attempt, Json more = {}) {
    more["type"] = type;
    more["attempt"] = attempt;
    p.socket->send(more);
  }
  void elect(Peer& first, int attempt) {
    EXPECT_EQ(next(first, "need_master").value("attempt", -1), attempt);
    send(first, "master", attempt, {{"addr", "10.0.0.1"}, {"port", 4321}});
  }
  static Failure failure(int rank, int exit_code) {
    Failure f;
    f.rank = rank;
    f.host = "h";
    f.exit_code = exit_code;
    return f;
  }

  EventLoop loop_;
  LaunchOptions options_;
  int port_ = 0;
  std::unique_ptr<RendezvousServer> server_;
};

TEST_F(Rendezvous, RanksFollowNodeRankAndUnequalCounts) {
  serve(2, 2);
  auto second = joined(join(3, 1));
  auto first = joined(join(2, 0));
  elect(*first, 0);
  const Json a = next(*first, "start");
  const Json b = next(*second, "start");
  EXPECT_EQ(a.at("rank_offset"), 0);
  EXPECT_EQ(b.at("rank_offset"), 2);
  EXPECT_EQ(a.at("group_rank"), 0);
  EXPECT_EQ(b.at("group_rank"), 1);
  for (const Json& start : {a, b}) {
    EXPECT_EQ(start.at("world_size"), 5);
    EXPECT_EQ(start.at("group_world_size"), 2);
    EXPECT_EQ(start.at("master_addr"), "10.0.0.1");
    EXPECT_EQ(start.at("master_port"), 4321);
  }
  send(*first, "done", 0);
  send(*second, "done", 0);
  EXPECT_EQ(next(*first, "finish").at("code"), 0);
  EXPECT_EQ(next(*second, "finish").at("code"), 0);
  EXPECT_FALSE(server_->drained());
  first->socket->close();
  second->socket->close();
  EXPECT_TRUE(until([&] { return server_->drained(); }));
}

TEST_F(Rendezvous, LastCallStartsWithFewerThanMax) {
  options_.last_call_s = 0.2;
  serve(1, 2);
  auto only = joined(join(2));
  elect(*only, 0);
  EXPECT_EQ(next(*only, "start").at("world_size"), 2);
}

TEST_F(Rendezvous, JoinTimeoutNamesWhoIsThere) {
  options_.join_timeout_s = 0.3;
  serve(2, 2);
  auto only = joined(join(2, -1, "node7"));
  const Json finish = next(*only, "finish");
  EXPECT_EQ(finish.at("code"), 1);
  EXPECT_THAT(finish.at("reason").get<std::string>(),
              AllOf(HasSubstr("1 of 2 nodes"), HasSubstr("node7 (2 ranks)")));
}

TEST_F(Rendezvous, FailureStopsAllThenRestartsThenGivesUp) {
  serve(2, 2, /*max_restarts=*/1);
  auto a = joined(join(1, 0));
  auto b = joined(join(1, 1));
  for (int attempt = 0; attempt < 2; ++attempt) {
    elect(*a, attempt);
    next(*a, "start");
    next(*b, "start");
    send(*b, "failed", attempt, {{"failure", failure(1, 9)}});
    for (Peer* p : {a.get(), b.get()}) {
      const Json stop = next(*p, "stop");
      EXPECT_EQ(stop.at("failure").at("rank"), 1);
      send(*p, "stopped", attempt, {{"code", 0}});
    }
  }
  const Json finish = next(*a, "finish");
  EXPECT_EQ(finish.at("code"), 1);
  EXPECT_THAT(finish.at("reason").get<std::string>(), HasSubstr("used up"));
}

TEST_F(Rendezvous, RefusalsOfTheProgramAreNotRepeated) {
  for (const int code : {2, 77}) {
    serve(1, 1, /*max_restarts=*/5);
    auto a = joined(join(1));
    elect(*a, 0);
    next(*a, "start");
    send(*a, "failed", 0, {{"failure", failure(0, code)}});
    next(*a, "stop");
    send(*a, "stopped", 0, {{"code", code}});
    EXPECT_EQ(next(*a, "finish").at("code"), code);
  }
}

TEST_F(Rendezvous, LostNodeLeadsToARestartOnTheRest) {
  options_.last_call_s = 0.2;
  serve(1, 2, /*max_restarts=*/1);
  auto a = joined(join(2, 0));
  auto b = joined(join(2, 1, "gone"));
  elect(*a, 0);
  next(*a, "start");
  b->socket->close();
  EXPECT_THAT(next(*a, "stop").at("reason").get<std::string>(),
              AllOf(HasSubstr("node gone"), HasSubstr("ranks 2-3")));
  send(*a, "stopped", 0, {{"code", 0}});
  elect(*a, 1);
  EXPECT_EQ(next(*a, "start").at("world_size"), 2);
}

TEST_F(Rendezvous, SilentNodeIsLost) {
  options_.heartbeat_s = 0.6;
  serve(2, 2);
  auto mute = joined(join(1, 1, "mute"));
  auto a = joined(join(1, 0));
  elect(*a, 0);
  next(*a, "start");
  // Only `a` keeps its heartbeat.
  EXPECT_TRUE(until([&] {
    a->socket->send({{"type", "heartbeat"}});
    return !a->inbox.empty();
  }));
  EXPECT_THAT(next(*a, "stop").at("reason").get<std::string>(),
              AllOf(HasSubstr("node mute"), HasSubstr("silent")));
}

TEST_F(Rendezvous, LatecomerMakesASmallGroupRestartWithoutUsingARestart) {
  options_.last_call_s = 0.2;
  serve(1, 2, /*max_restarts=*/0);
  auto a = joined(join(2));
  elect(*a, 0);
  next(*a, "start");
  auto late = joined(join(1, -1, "late"));
  EXPECT_THAT(next(*a, "stop").at("reason").get<std::string>(),
              HasSubstr("late has joined"));
  send(*a, "stopped", 0, {{"code", 0}});
  elect(*a, 1);
  EXPECT_EQ(next(*a, "start").at("world_size"), 3);
  EXPECT_EQ(next(*late, "start").at("rank_offset"), 2);
}

TEST_F(Rendezvous, MismatchesAreRefusedWithTheReason) {
  serve(2, 2);
  auto present = joined(join(1, 0, "node0"));
  Json good = join(1, 1);
  good["min_nodes"] = 2;
  const auto reason = [&](const std::string& key, const Json& value) {
    Json bad = good;
    bad[key] = value;
    auto p = peer();
    p->socket->send(bad);
    return next(*p, "refused").value("reason", "");
  };
  EXPECT_THAT(reason("protocol", 2), HasSubstr("protocol version 1 here"));
  EXPECT_THAT(reason("run_id", "other"), HasSubstr("--rdzv-id"));
  EXPECT_THAT(reason("max_nodes", 3), HasSubstr("2:2 here, 2:3 there"));
  EXPECT_THAT(reason("node_rank", 0), HasSubstr("taken by node0"));
  EXPECT_THAT(reason("nproc", 0), HasSubstr("ranks per node"));
  auto p = peer();
  p->socket->send({{"type", "done"}, {"attempt", 0}});
  EXPECT_THAT(next(*p, "refused").value("reason", ""), HasSubstr("join"));
}

TEST_F(Rendezvous, GarbageEndsItsOwnConnectionOnly) {
  serve(2, 2);
  auto a = joined(join(1, 0));
  const std::vector<std::string> garbage = {
      "GET / HTTP/1.1\r\n\r\n",
      "\n",
      "{}\n",
      "[]\n",
      "{\"type\":7}\n",
      "{\"type\":\"join\"}\n",
      "{\"type\":\"join\",\"protocol\":\"x\"}\n",
      std::string(64, '\0') + "\n",
      "\xff\xfe\n",
      std::string(100'000, '[') + "\n",
      std::string(2 * kMaxLineBytes, 'x'),
  };
  for (const std::string& bytes : garbage) {
    auto p = peer();
    std::size_t at = 0;
    EXPECT_TRUE(until([&] {
      if (p->cut) return true;
      const ssize_t n = ::send(p->socket->fd(), bytes.data() + at,
                               bytes.size() - at, MSG_NOSIGNAL);
      if (n > 0) at += static_cast<std::size_t>(n);
      return p->cut;
    })) << bytes.substr(0, 40);
    EXPECT_TRUE(p->inbox.empty());
  }
  auto b = joined(join(1, 1));  // the server is as before
  elect(*a, 0);
  EXPECT_EQ(next(*b, "start").at("world_size"), 2);
}

TEST_F(Rendezvous, ClientReportsAServerThatIsNone) {
  UniqueFd listener = listen_on("127.0.0.1", 0);
  options_.heartbeat_s = 0.6;
  options_.join_timeout_s = 0.5;
  std::string why;
  const RendezvousClient::Handlers handlers{
      [](const Json&) {}, [&](const std::string& text) { why = text; }};
  RendezvousClient mute(loop_, options_, "127.0.0.1",
                        local_port(listener.get()), handlers);
  EXPECT_TRUE(until([&] { return !why.empty(); }));
  EXPECT_THAT(why, HasSubstr("no dai_launch rendezvous answers"));
  why.clear();
  const int port = local_port(listener.get());
  listener.reset();
  RendezvousClient refused(loop_, options_, "127.0.0.1", port, handlers);
  EXPECT_TRUE(until([&] { return !why.empty(); }));
  EXPECT_THAT(why, HasSubstr("cannot reach the rendezvous"));
}

}  // namespace
}  // namespace dai::launch
