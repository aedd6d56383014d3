// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>

#include <filesystem>
#include <fstream>

#include "ch01_intro/selfcheck/host_facts.h"
#include "ch01_intro/selfcheck/reach.h"
#include "common/errors.h"
#include "tests/common/temp_folder.h"

namespace dai::intro {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// A machine's files, as they would lie under "/".
class FakeRoot : public TempFolder {
 protected:
  void put(const std::string& path, const std::string& text) {
    const fs::path file = root() + path;
    fs::create_directories(file.parent_path());
    std::ofstream(file) << text;
  }
  std::string root() const { return folder_.string(); }
};

TEST_F(FakeRoot, NumaNodesOfTheUsableCores) {
  put("/sys/devices/system/node/node0/cpulist", "0-3\n");
  put("/sys/devices/system/node/node1/cpulist", "4-7\n");
  put("/sys/devices/system/node/node2/cpulist", "\n");  // memory alone
  EXPECT_THAT(read_numa_nodes(root(), {1, 5}), ElementsAre(0, 1));
  EXPECT_THAT(read_numa_nodes(root(), {6}), ElementsAre(1));
  EXPECT_THAT(read_numa_nodes(root(), {}), ElementsAre(0, 1));
}

TEST_F(FakeRoot, NothingThereIsUnknownAndNoFault) {
  EXPECT_THAT(read_numa_nodes(root(), {}), IsEmpty());
  EXPECT_THAT(read_gpus(root(), "libno_such_driver.so"), IsEmpty());
}

TEST(Facts, CpuListsAreReadUpToTheFirstMistake) {
  EXPECT_THAT(parse_cpu_list("0-2,8"), ElementsAre(0, 1, 2, 8));
  EXPECT_THAT(parse_cpu_list("3,x,5"), ElementsAre(3));
  EXPECT_THAT(parse_cpu_list(""), IsEmpty());
}

TEST(Facts, ThisMachineIsSeen) {
  const HostFacts facts = read_host_facts();
  EXPECT_GE(facts.cores(), 1);
  EXPECT_GT(facts.memory_bytes, 0);
  EXPECT_THAT(facts.versions.at("binary"), ::testing::SizeIs(16));
  bool loopback = false;
  for (const Link& link : facts.links) loopback |= link.loopback;
  EXPECT_TRUE(loopback);
  EXPECT_EQ(process_state(facts.pid), 'R');
  EXPECT_EQ(process_state(1 << 30), '\0');
}

TEST(Reach, ServerAnswersAndClocksOfOneMachineAgree) {
  const EchoServer server("127.0.0.1");
  const auto found =
      ping_peers({{3, "127.0.0.1", server.port(), server.token()}}, {});
  ASSERT_EQ(found.size(), 1);
  EXPECT_EQ(found[0].rank, 3);
  EXPECT_EQ(found[0].error, "");
  EXPECT_GT(found[0].rtt_us, 0);
  EXPECT_GT(found[0].mb_per_s, 0);
  EXPECT_LT(std::abs(found[0].clock_offset_us), found[0].clock_error_us + 1e5);
}

TEST(Reach, ServerRefusesStrangers) {
  const EchoServer server("127.0.0.1");
  const auto found =
      ping_peers({{0, "127.0.0.1", server.port(), server.token() + 1}}, {});
  EXPECT_THAT(found[0].error, HasSubstr("connected, but small messages fail"));
}

TEST(Reach, ClosedPortAndNonsenseAreToldApart) {
  int port = 0;
  {
    port = EchoServer("127.0.0.1").port();
  }
  const auto found =
      ping_peers({{0, "127.0.0.1", port, 1}, {1, "not an address", 9, 1}}, {});
  EXPECT_THAT(found[0].error, HasSubstr("cannot connect: Connection refused"));
  EXPECT_THAT(found[1].error, HasSubstr("'not an address' is no address"));
}

TEST(Reach, NamesResolveOrSayWhyNot) {
  const auto limit = std::chrono::milliseconds(2000);
  EXPECT_THAT(resolve_name("127.0.0.1", limit).addresses,
              ElementsAre("127.0.0.1"));
  const Resolved wrong = resolve_name("300.1.2.3.invalid", limit);
  EXPECT_THAT(wrong.addresses, IsEmpty());
  EXPECT_NE(wrong.error, "");
}

TEST(Reach, AddressIsTheInterfacesTheRoutesOrLoopback) {
  const std::vector<Link> links{{"lo", "127.0.0.1", true, true, 65536, -1},
                                {"eth0", "10.0.0.7", true, false, 1500, -1}};
  LaunchContext launch;
  EXPECT_EQ(choose_own_address(launch, "", {}, links), "127.0.0.1");
  EXPECT_EQ(choose_own_address(launch, "eth0", {}, links), "10.0.0.7");
  EXPECT_THROW(choose_own_address(launch, "eth1", {}, links), UsageError);
  launch.node_count = 2;
  launch.master_addr = "node-a";  // its own name, on Debian
  EXPECT_EQ(choose_own_address(launch, "", {"127.0.1.1"}, links), "10.0.0.7");
  launch.master_addr = "localhost";  // all nodes are this machine
  EXPECT_EQ(choose_own_address(launch, "", {"127.0.0.1"}, links), "127.0.0.1");
}

}  // namespace
}  // namespace dai::intro
