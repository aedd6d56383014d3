// SPDX-License-Identifier: Apache-2.0
#include "common/log.h"

#include <spdlog/sinks/stdout_sinks.h>

#include <cstdlib>
#include <memory>
#include <string>

#include "common/errors.h"

namespace dai {

void init_log(int rank, int world_size) {
  const char* wanted = std::getenv("DAI_LOG");
  const std::string name = wanted == nullptr ? "warn" : wanted;
  const auto level = spdlog::level::from_str(name);
  // from_str answers "off" for every word it does not know.
  if (level == spdlog::level::off && name != "off") {
    throw UsageError("DAI_LOG=" + name +
                     " is no level: trace, debug, info, warn, error, off");
  }
  auto logger = std::make_shared<spdlog::logger>(
      "dai", std::make_shared<spdlog::sinks::stderr_sink_mt>());
  logger->set_level(level);
  logger->set_pattern(
      fmt::format("[rank {}/{}] %H:%M:%S.%e %-5l %v", rank, world_size));
  spdlog::set_default_logger(std::move(logger));
}

}  // namespace dai
