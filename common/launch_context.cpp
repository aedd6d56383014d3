// SPDX-License-Identifier: Apache-2.0
#include "common/launch_context.h"

#include <fmt/format.h>
#include <unistd.h>

#include <charconv>
#include <cstdlib>
#include <cstring>
#include <fstream>

#include "common/errors.h"

namespace dai {
namespace {

// Reads whole non-negative numbers and remembers which variable held them.
class Variables {
 public:
  explicit Variables(const Environment& get) : get_(get) {}

  bool has(const char* name) const { return get_(name) != nullptr; }
  std::string text(const char* name) const {
    const char* value = get_(name);
    return value == nullptr ? "" : value;
  }

  int number(const char* name) const {
    const std::string value = text(name);
    int result = 0;
    const char* end = value.data() + value.size();
    const auto [stop, error] = std::from_chars(value.data(), end, result);
    if (error != std::errc() || stop != end || result < 0) {
      throw UsageError(
          fmt::format("{}='{}' is not a rank or a count", name, value));
    }
    return result;
  }

  int number_or(const char* name, int fallback) const {
    return has(name) ? number(name) : fallback;
  }

  // A dialect is spoken in full or not at all.
  void need(const char* because, const char* name) const {
    if (!has(name)) {
      throw UsageError(fmt::format("{} is set but {} is not", because, name));
    }
  }

 private:
  const Environment& get_;
};

void read_torchrun(const Variables& env, LaunchContext& out) {
  for (const char* name : {"RANK", "WORLD_SIZE"}) {
    env.need(env.has("RANK") ? "RANK" : "WORLD_SIZE", name);
  }
  out.launcher = Launcher::kTorchrun;
  out.rank = env.number("RANK");
  out.world_size = env.number("WORLD_SIZE");
  // Ranks started by hand often say no more than that: then one node holds
  // them all.
  out.local_rank = env.number_or("LOCAL_RANK", out.rank);
  out.local_world_size = env.number_or("LOCAL_WORLD_SIZE", out.world_size);
  out.node_rank = env.number_or("GROUP_RANK", 0);
  out.node_count = env.number_or("GROUP_WORLD_SIZE", 1);
  out.restart_count = env.number_or("TORCHELASTIC_RESTART_COUNT", 0);
  out.supervised = env.has("TORCHELASTIC_RUN_ID");
  out.agent_store = env.text("TORCHELASTIC_USE_AGENT_STORE") == "True";
  if (env.has("DAI_MASTER_LISTEN_FD") && out.rank == 0) {
    out.master_listen_fd = env.number("DAI_MASTER_LISTEN_FD");
  }
  if (out.world_size > 1) env.need("WORLD_SIZE", "MASTER_ADDR");
}

// A RANK exported once in a shell reaches every process that mpirun or srun
// starts from it: all would be rank 0. An agent that numbered its ranks itself
// (torchrun under srun) sets a run id, and is believed.
void refuse_stray_rank(const Variables& env, const LaunchContext& torchrun,
                       const char* rank_name, const char* size_name) {
  if (!env.has(rank_name) || !env.has(size_name)) return;
  if (env.has("TORCHELASTIC_RUN_ID")) return;
  if (env.number(rank_name) == torchrun.rank) return;
  throw UsageError(fmt::format(
      "RANK={} contradicts {}={}: unset RANK and WORLD_SIZE, or start the "
      "program without that launcher",
      torchrun.rank, rank_name, env.text(rank_name)));
}

// Ranks of one mpirun on one node share a parent process; its pid and start
// time name their meeting point, which no earlier or later job can share.
std::string parent_identity() {
  const auto parent = getppid();
  std::ifstream stat(fmt::format("/proc/{}/stat", parent));
  std::string text((std::istreambuf_iterator<char>(stat)), {});
  // Field 22 is the start time; field 2, in parentheses, may hold blanks.
  const auto name_end = text.rfind(')');
  std::size_t at = name_end == std::string::npos ? 0 : name_end;
  for (int field = 2; field < 22 && at != std::string::npos; ++field) {
    at = text.find(' ', at + 1);
  }
  const auto start = at == std::string::npos
                         ? std::string("0")
                         : text.substr(at + 1, text.find(' ', at + 1) - at - 1);
  return fmt::format("{}-{}", parent, start);
}

std::string meeting_file(const std::string& job) {
  const char* tmp = std::getenv("TMPDIR");
  return fmt::format("{}/dai-{}-{}.port", tmp == nullptr ? "/tmp" : tmp,
                     getuid(), job);
}

void read_open_mpi(const Variables& env, LaunchContext& out) {
  for (const char* name : {"OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK",
                           "OMPI_COMM_WORLD_LOCAL_SIZE"}) {
    env.need("OMPI_COMM_WORLD_RANK", name);
  }
  out.launcher = Launcher::kOpenMpi;
  out.supervised = true;
  out.rank = env.number("OMPI_COMM_WORLD_RANK");
  out.world_size = env.number("OMPI_COMM_WORLD_SIZE");
  out.local_rank = env.number("OMPI_COMM_WORLD_LOCAL_RANK");
  out.local_world_size = env.number("OMPI_COMM_WORLD_LOCAL_SIZE");
  // mpirun does not say how many nodes there are, nor which one this is: as
  // many as it takes where all hold as many ranks, filled one after the other.
  if (out.local_world_size > 0 && out.world_size > out.local_world_size) {
    out.node_count =
        (out.world_size + out.local_world_size - 1) / out.local_world_size;
    out.node_rank = out.rank / out.local_world_size;
  }
  if (env.has("PMIX_RANK") && env.number("PMIX_RANK") != out.rank) {
    throw UsageError(
        fmt::format("OMPI_COMM_WORLD_RANK={} contradicts PMIX_RANK={}",
                    out.rank, env.number("PMIX_RANK")));
  }
  out.meeting_file = meeting_file("mpi-" + parent_identity());
}

// In a batch script outside srun, SLURM_PROCID is set too: only a job step has
// a step id of ordinary size, and only its tasks are ranks.
bool in_slurm_step(const Variables& env) {
  const std::string step = env.text("SLURM_STEP_ID");
  return env.has("SLURM_PROCID") && !step.empty() && step.size() < 10;
}

// "gpu[07-09,12]-a,x" begins with the host gpu07-a.
std::string first_of_node_list(const std::string& list) {
  std::string host;
  for (std::size_t at = 0; at < list.size() && list[at] != ','; ++at) {
    if (list[at] != '[') {
      host += list[at];
      continue;
    }
    const std::size_t end = list.find(']', at);
    if (end == std::string::npos) break;
    host += list.substr(at + 1, list.find_first_of("-,]", at) - at - 1);
    at = end;
  }
  return host;
}

// Steps of one machine that run at the same time should not meet by accident:
// a port for each, below those that Linux hands out itself.
int port_of_step(const Variables& env, int restart_count) {
  return 20000 + (env.number_or("SLURM_JOB_ID", 0) % 1000 * 10 +
                  env.number_or("SLURM_STEP_ID", 0) + restart_count) %
                     10000;
}

void read_slurm(const Variables& env, LaunchContext& out) {
  const char* size =
      env.has("SLURM_STEP_NUM_TASKS") ? "SLURM_STEP_NUM_TASKS" : "SLURM_NTASKS";
  for (const char* name : {size, "SLURM_LOCALID"}) {
    env.need("SLURM_PROCID", name);
  }
  out.launcher = Launcher::kSlurm;
  out.supervised = true;
  out.rank = env.number("SLURM_PROCID");
  out.world_size = env.number(size);
  out.local_rank = env.number("SLURM_LOCALID");
  out.node_rank = env.number_or("SLURM_NODEID", 0);
  out.node_count =
      env.number_or("SLURM_STEP_NUM_NODES", env.number_or("SLURM_NNODES", 1));
  if (out.node_count < 1) {
    throw UsageError("SLURM_NNODES=0: a job has at least one node");
  }
  // srun spreads tasks evenly unless told otherwise.
  out.local_world_size = (out.world_size + out.node_count - 1) / out.node_count;
  out.restart_count = env.number_or("SLURM_RESTART_COUNT", 0);
  out.meeting_file =
      meeting_file(fmt::format("slurm-{}.{}.{}", env.text("SLURM_JOB_ID"),
                               env.text("SLURM_STEP_ID"), out.restart_count));
  // Rank 0 is a task of the first node. MASTER_ADDR, where set, says otherwise.
  const char* list = env.has("SLURM_STEP_NODELIST") ? "SLURM_STEP_NODELIST"
                                                    : "SLURM_JOB_NODELIST";
  if (out.node_count > 1 && env.has(list) && !env.has("MASTER_ADDR") &&
      !env.has("MASTER_PORT")) {
    out.master_addr = first_of_node_list(env.text(list));
    out.master_port = port_of_step(env, out.restart_count);
    out.meeting_file.clear();
  }
}

void validate(const Variables& env, LaunchContext& out) {
  if (out.world_size < 1 || out.rank >= out.world_size) {
    throw UsageError(
        fmt::format("rank {} of {} ranks ({}): a rank is below "
                    "the number of ranks",
                    out.rank, out.world_size, to_string(out.launcher)));
  }
  if (out.local_world_size < 1 || out.local_rank >= out.local_world_size ||
      out.local_world_size > out.world_size) {
    throw UsageError(fmt::format(
        "local rank {} of {} local ranks among {} ranks ({})", out.local_rank,
        out.local_world_size, out.world_size, to_string(out.launcher)));
  }
  if (out.world_size == 1) return;  // one rank meets nobody
  if (env.has("MASTER_ADDR") != env.has("MASTER_PORT")) {
    const bool has_addr = env.has("MASTER_ADDR");
    env.need(has_addr ? "MASTER_ADDR" : "MASTER_PORT",
             has_addr ? "MASTER_PORT" : "MASTER_ADDR");
  }
  if (env.has("MASTER_ADDR")) {
    out.master_addr = env.text("MASTER_ADDR");
    out.master_port = env.number("MASTER_PORT");
    out.meeting_file.clear();
    if (out.master_addr.empty() || out.master_port < 1 ||
        out.master_port > 65535) {
      throw UsageError(fmt::format(
          "MASTER_ADDR='{}' MASTER_PORT={}: a host name and a port 1-65535",
          out.master_addr, out.master_port));
    }
  } else if (out.master_addr.empty() && out.local_world_size < out.world_size) {
    throw UsageError(fmt::format(
        "{} ranks on several nodes ({}) need MASTER_ADDR and MASTER_PORT: "
        "the host of rank 0 and a free port there",
        out.world_size, to_string(out.launcher)));
  }
}

}  // namespace

const char* to_string(Launcher launcher) {
  switch (launcher) {
    case Launcher::kTorchrun:
      return "torchrun";
    case Launcher::kOpenMpi:
      return "mpirun";
    case Launcher::kSlurm:
      return "srun";
    case Launcher::kNone:
      break;
  }
  return "none";
}

LaunchContext launch_context_from_environment(const Environment& get) {
  const Environment real = [](const char* name) { return std::getenv(name); };
  const Variables env(get ? get : real);
  LaunchContext out;
  char host[256] = {};
  gethostname(host, sizeof host - 1);
  out.host = host;
  if (env.has("RANK") || env.has("WORLD_SIZE")) {
    read_torchrun(env, out);
    refuse_stray_rank(env, out, "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE");
    if (in_slurm_step(env)) {
      refuse_stray_rank(env, out, "SLURM_PROCID", "SLURM_NTASKS");
    }
  } else if (env.has("OMPI_COMM_WORLD_RANK")) {
    read_open_mpi(env, out);
  } else if (in_slurm_step(env)) {
    read_slurm(env, out);
  }
  validate(env, out);
  return out;
}

}  // namespace dai
