// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <cstdio>
#include <exception>

#include "common/errors.h"
#include "common/launch/agent.h"
#include "common/launch/options.h"

int main(int argc, char** argv) {
  try {
    const auto options = dai::launch::parse_options({argv + 1, argv + argc});
    if (options.help) {
      fmt::print("{}", dai::launch::help_text());
      return dai::kExitOk;
    }
    dai::launch::find_program(options.program.front());
    return dai::launch::run_agent(options);
  } catch (const dai::UsageError& error) {
    fmt::print(stderr, "dai_launch: {}\n", error.what());
    return dai::kExitUsage;
  } catch (const std::exception& error) {
    fmt::print(stderr, "dai_launch: {}\n", error.what());
    return dai::kExitFailed;
  }
}
