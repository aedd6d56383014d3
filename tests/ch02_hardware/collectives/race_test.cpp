// SPDX-License-Identifier: Apache-2.0

// A data race on purpose. Built with ThreadSanitizer alone, where it must end
// the program; CTest expects that (WILL_FAIL).

#include <gtest/gtest.h>

#include <thread>

TEST(Race, IsSeen) {
  int counter = 0;
  std::thread other([&] { ++counter; });
  ++counter;
  other.join();
  EXPECT_GT(counter, 0);
}
