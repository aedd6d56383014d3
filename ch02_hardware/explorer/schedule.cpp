// SPDX-License-Identifier: Apache-2.0
#include "ch02_hardware/explorer/schedule.h"

#include <fmt/format.h>

#include <algorithm>
#include <exception>
#include <map>
#include <stdexcept>
#include <thread>
#include <tuple>

#include "ch02_hardware/perf/known_data.h"
#include "ch02_hardware/transport/shm_transport.h"
#include "common/errors.h"

namespace dai::hardware {
namespace {

using Logs = std::vector<std::vector<RecordedExchange>>;

// The k-th message from one rank to another is the k-th that the other
// receives from it: that is all it takes to pair them.
struct Paired {
  int from, to;
  std::size_t sent_in, received_in;  // exchanges, in the ranks' logs
  RecordedPart out, in;
};

std::vector<Paired> pair_messages(const Logs& logs) {
  std::map<std::pair<int, int>, std::vector<Paired>> open;
  const int ranks = static_cast<int>(logs.size());
  for (int from = 0; from < ranks; ++from) {
    for (std::size_t i = 0; i < logs[from].size(); ++i) {
      for (const RecordedPart& out : logs[from][i].sent) {
        if (out.bytes == 0) continue;
        open[{from, out.peer}].push_back({from, out.peer, i, 0, out, {}});
      }
    }
  }
  std::map<std::pair<int, int>, std::size_t> next;
  std::vector<Paired> all;
  for (int to = 0; to < ranks; ++to) {
    for (std::size_t i = 0; i < logs[to].size(); ++i) {
      for (const RecordedPart& in : logs[to][i].received) {
        if (in.bytes == 0) continue;
        const std::pair<int, int> way{in.peer, to};
        Paired one = open.at(way).at(next[way]++);
        one.received_in = i;
        one.in = in;
        all.push_back(one);
      }
    }
  }
  return all;
}

// The step of each exchange of each rank: at least one after the one before,
// and not before what it receives can have been sent.
std::vector<std::vector<int>> steps_of(const Logs& logs,
                                       const std::vector<Paired>& messages) {
  std::vector<std::vector<int>> step;
  for (const auto& log : logs) step.emplace_back(log.size(), 1);
  for (bool changed = true; changed;) {
    changed = false;
    const auto raise = [&](int& at, int to) {
      if (at >= to) return;
      at = to;
      changed = true;
    };
    for (auto& rank : step) {
      for (std::size_t i = 1; i < rank.size(); ++i) {
        raise(rank[i], rank[i - 1] + 1);
      }
    }
    for (const Paired& message : messages) {
      raise(step[message.to][message.received_in],
            step[message.from][message.sent_in]);
    }
  }
  return step;
}

const char* kColours[] = {"#4e79a7", "#f28e2b", "#59a14f", "#e15759", "#b07aa1",
                          "#76b7b2", "#edc948", "#9c755f", "#bab0ac"};

std::string what_of(const Message& message) {
  const std::string elements =
      message.first < 0
          ? fmt::format("{} elements of partial results", message.count)
      : message.count == 1 ? fmt::format("element {}", message.first)
                           : fmt::format("elements {}-{}", message.first,
                                         message.first + message.count - 1);
  return elements + (message.combined ? ", added" : "");
}

}  // namespace

Schedule record_schedule(const Algorithm& algorithm, int ranks,
                         std::int64_t count) {
  if (algorithm.needs != Needs::kNothing ||
      algorithm.collective == Collective::kBarrier) {
    throw UsageError(fmt::format("{} {} sends no messages that could be drawn",
                                 algorithm.name,
                                 to_string(algorithm.collective)));
  }
  Schedule schedule;
  schedule.what = algorithm.collective;
  schedule.algorithm = algorithm.name;
  schedule.ranks = ranks;
  schedule.count = count;
  const KnownData data{.what = algorithm.collective,
                       .count = static_cast<std::size_t>(count)};
  Logs logs(ranks);
  std::vector<std::size_t> wrong(ranks, 0);
  std::vector<std::exception_ptr> errors(ranks);
  auto transports = thread_transports(ranks);
  std::vector<std::thread> threads;
  for (int rank = 0; rank < ranks; ++rank) {
    threads.emplace_back([&, rank] {
      try {
        const std::size_t in = data.input_count(rank, ranks);
        const std::size_t out = data.output_count(rank, ranks);
        std::vector<float> input(in), output(out);
        data.fill_input(rank, ranks, input.data());
        Operands o;
        o.input = in ? input.data() : nullptr;
        o.output = out ? output.data() : nullptr;
        o.count = data.count;
        RecordingTransport recorder(*transports[rank], o, in * 4, out * 4);
        algorithm.run(o, recorder);
        logs[rank] = recorder.log();
        wrong[rank] = data.count_wrong(rank, ranks, output.data());
      } catch (...) {
        errors[rank] = std::current_exception();
      }
    });
  }
  for (auto& thread : threads) thread.join();
  for (const auto& error : errors) {
    if (error) std::rethrow_exception(error);
  }
  for (const std::size_t n : wrong) schedule.wrong_elements += n;

  const auto messages = pair_messages(logs);
  const auto steps = steps_of(logs, messages);
  schedule.sent_elements.assign(ranks, 0);
  for (const Paired& one : messages) {
    Message message;
    message.step =
        std::max(steps[one.from][one.sent_in], steps[one.to][one.received_in]);
    message.from = one.from;
    message.to = one.to;
    message.count = static_cast<std::int64_t>(one.in.bytes / 4);
    message.combined = one.in.combined;
    const RecordedPart& telling =
        one.in.place != Place::kScratch ? one.in : one.out;
    if (telling.place != Place::kScratch) {
      message.first = static_cast<std::int64_t>(telling.offset / 4);
    }
    schedule.sent_elements[one.from] += message.count;
    schedule.steps = std::max(schedule.steps, message.step);
    schedule.messages.push_back(message);
  }
  std::sort(schedule.messages.begin(), schedule.messages.end(),
            [](const Message& a, const Message& b) {
              return std::tie(a.step, a.from, a.to, a.first) <
                     std::tie(b.step, b.from, b.to, b.first);
            });
  return schedule;
}

std::string schedule_text(const Schedule& schedule) {
  std::string text = fmt::format(
      "{} {} of {} elements on {} ranks: {} steps\n", schedule.algorithm,
      to_string(schedule.what), schedule.count, schedule.ranks, schedule.steps);
  int step = 0;
  for (const Message& message : schedule.messages) {
    if (message.step != step) {
      step = message.step;
      text += fmt::format("step {}\n", step);
    }
    text += fmt::format("  {} -> {}   {}\n", message.from, message.to,
                        what_of(message));
  }
  text += "sent, in elements:";
  for (int rank = 0; rank < schedule.ranks; ++rank) {
    text += fmt::format("  rank {}: {}", rank, schedule.sent_elements[rank]);
  }
  return text + "\n";
}

std::string schedule_svg(const Schedule& schedule) {
  constexpr int kColumn = 120, kRow = 70, kLeft = 70, kTop = 60;
  const int width = kLeft + kColumn * (schedule.ranks - 1) + 70;
  const int height = kTop + kRow * schedule.steps + 40;
  const auto x = [&](int rank) { return kLeft + kColumn * rank; };
  const auto y = [&](int step) { return kTop + kRow * step; };
  std::string svg = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{}\" height=\"{}\" "
      "font-family=\"sans-serif\" font-size=\"11\">\n"
      "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
      "<defs><marker id=\"head\" viewBox=\"0 0 8 8\" refX=\"7\" refY=\"4\" "
      "markerWidth=\"7\" markerHeight=\"7\" orient=\"auto\">"
      "<path d=\"M0,0 L8,4 L0,8 z\" fill=\"context-stroke\"/></marker></defs>"
      "\n<text x=\"12\" y=\"20\" font-size=\"13\">{} {}, {} ranks, {} "
      "steps</text>\n",
      width, height, schedule.algorithm, to_string(schedule.what),
      schedule.ranks, schedule.steps);
  for (int rank = 0; rank < schedule.ranks; ++rank) {
    svg += fmt::format(
        "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">rank {}</text>\n"
        "<line x1=\"{}\" y1=\"{}\" x2=\"{}\" y2=\"{}\" stroke=\"#cccccc\"/>\n",
        x(rank), kTop - 18, rank, x(rank), y(0), x(rank), y(schedule.steps));
  }
  for (int step = 0; step <= schedule.steps; ++step) {
    if (step > 0) {
      svg += fmt::format("<text x=\"8\" y=\"{}\">step {}</text>\n",
                         y(step) - kRow / 2 + 4, step);
    }
    for (int rank = 0; rank < schedule.ranks; ++rank) {
      svg += fmt::format("<circle cx=\"{}\" cy=\"{}\" r=\"3\"/>\n", x(rank),
                         y(step));
    }
  }
  for (const Message& message : schedule.messages) {
    const char* const colour = kColours[message.from % std::size(kColours)];
    // The label lies a third of the way along: arrows that cross in the middle
    // leave it free.
    const int x1 = x(message.from), y1 = y(message.step - 1);
    const int x2 = x(message.to), y2 = y(message.step);
    const std::string label =
        message.first < 0    ? fmt::format("{} el.", message.count)
        : message.count == 1 ? fmt::format("{}", message.first)
                             : fmt::format("{}-{}", message.first,
                                           message.first + message.count - 1);
    svg += fmt::format(
        "<line x1=\"{}\" y1=\"{}\" x2=\"{}\" y2=\"{}\" stroke=\"{}\" "
        "stroke-width=\"1.6\" marker-end=\"url(#head)\"/>\n"
        "<text x=\"{}\" y=\"{}\" fill=\"{}\" stroke=\"white\" "
        "stroke-width=\"3\" paint-order=\"stroke\" "
        "text-anchor=\"middle\">{}{}</text>\n",
        x1, y1 + 4, x2, y2 - 4, colour, x1 + (x2 - x1) / 3,
        y1 + (y2 - y1) / 3 + 6, colour, message.combined ? "+" : "", label);
  }
  return svg + "</svg>\n";
}

}  // namespace dai::hardware
