// SPDX-License-Identifier: Apache-2.0
#include "ch02_hardware/perf/perf_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <stdexcept>
#include <vector>

#include "ch02_hardware/perf/bandwidth.h"
#include "ch02_hardware/perf/known_data.h"
#include "common/errors.h"

namespace dai::hardware {
namespace {

bool rooted(Collective what) {
  return what == Collective::kReduce || what == Collective::kBroadcast ||
         what == Collective::kGather || what == Collective::kScatter;
}

// The two buffers of a rank, and where in place means that they overlap.
struct Buffers {
  Buffers(CollectiveTarget& target, const KnownData& data)
      : target(target), data(data) {
    const int rank = target.rank(), ranks = target.size();
    const std::size_t bytes =
        std::max({data.input_count(rank, ranks), data.output_count(rank, ranks),
                  data.count, std::size_t{1}}) *
        size_of(data.dtype);
    try {
      first = target.allocate(bytes);
      second = target.allocate(bytes);
    } catch (const std::exception&) {
      throw std::runtime_error(fmt::format(
          "rank {}: no memory for two buffers of {} bytes", rank, bytes));
    }
  }
  ~Buffers() { target.release(); }

  Operands operands(bool in_place) const {
    const int rank = target.rank();
    Operands o;
    o.count = data.count;
    o.dtype = data.dtype;
    o.op = data.op;
    o.root = data.root;
    o.input = first;
    o.output = in_place ? first : second;
    if (!in_place) return o;
    auto* const mine =
        static_cast<std::byte*>(first) + rank * data.count * size_of(o.dtype);
    const bool at_root = rank == data.root;
    if (data.what == Collective::kAllGather ||
        (data.what == Collective::kGather && at_root)) {
      o.input = mine;
    }
    if (data.what == Collective::kReduceScatter ||
        (data.what == Collective::kScatter && at_root)) {
      o.output = mine;
    }
    return o;
  }

  CollectiveTarget& target;
  const KnownData& data;
  void* first = nullptr;
  void* second = nullptr;
};

// Known inputs, and outputs that are wrong. Memory that nobody has written is
// no memory yet: reading it is much faster than reading data would be.
void fill(CollectiveTarget& target, const KnownData& data, const Operands& o) {
  const int rank = target.rank(), ranks = target.size();
  const std::size_t element = size_of(data.dtype);
  const std::size_t in = data.input_count(rank, ranks) * element;
  const std::size_t out = data.output_count(rank, ranks) * element;
  std::vector<std::byte> host(std::max({in, out, std::size_t{1}}));
  data.spoil_output(rank, ranks, host.data());
  if (out > 0) target.write(o.output, host.data(), out);
  data.fill_input(rank, ranks, host.data());
  if (in > 0) target.write(const_cast<void*>(o.input), host.data(), in);
  target.sum(0);  // nobody reads a buffer that is still being filled
}

// Runs it once on fresh data. Wrong elements over all ranks.
std::size_t check_once(CollectiveTarget& target, const KnownData& data,
                       const Operands& o) {
  fill(target, data, o);
  target.run(data.what, o);
  target.settle();
  const int rank = target.rank(), ranks = target.size();
  const std::size_t out = data.output_count(rank, ranks) * size_of(data.dtype);
  std::vector<std::byte> host(std::max(out, std::size_t{1}));
  if (out > 0) target.read(host.data(), o.output, out);
  const std::size_t wrong = data.count_wrong(rank, ranks, host.data());
  return static_cast<std::size_t>(target.sum(static_cast<double>(wrong)));
}

PerfResult measure(CollectiveTarget& target, const PerfOptions& options,
                   const KnownData& data, const Buffers& buffers, double size,
                   bool in_place) {
  const Operands o = buffers.operands(in_place);
  fill(target, data, o);
  PerfResult result;
  result.time =
      time_collective(target, data.what, o, options.warm_up, options.rounds);
  const Bandwidth speed =
      bandwidth(data.what, size, result.time.mean_s, target.size());
  result.algbw_gb_per_s = speed.algbw_gb_per_s;
  result.busbw_gb_per_s = speed.busbw_gb_per_s;
  if (options.check) result.wrong = check_once(target, data, o);
  return result;
}

std::string half_line(const std::optional<PerfResult>& result) {
  if (!result) {
    return fmt::format("{:>9} {:>7} {:>7} {:>6}", "N/A", "N/A", "N/A", "N/A");
  }
  const double us = result->time.mean_s * 1e6;
  return fmt::format(
      "{:>9} {:>7.2f} {:>7.2f} {:>6}",
      us < 100 ? fmt::format("{:.2f}", us) : fmt::format("{:.1f}", us),
      result->algbw_gb_per_s, result->busbw_gb_per_s,
      result->wrong ? fmt::format("{}", *result->wrong) : "N/A");
}

}  // namespace

std::size_t parse_bytes(const std::string& text) {
  char* end = nullptr;
  const double number = std::strtod(text.c_str(), &end);
  const bool any = end != text.c_str();
  const char unit = static_cast<char>(std::toupper(*end));
  const double scale = unit == 'K'   ? 1024.0
                       : unit == 'M' ? 1048576.0
                       : unit == 'G' ? 1073741824.0
                                     : 1.0;
  if (scale > 1) ++end;
  if (!any || *end != '\0' || !(number >= 0) || number * scale > 1e15) {
    throw UsageError(fmt::format(
        "size {}: expected a number of bytes, such as 512, 8K, 64M or 1G",
        text));
  }
  return static_cast<std::size_t>(number * scale);
}

void check_options(const PerfOptions& options, int ranks) {
  if (options.min_bytes > options.max_bytes) {
    throw UsageError(fmt::format("-b {} is more than -e {}", options.min_bytes,
                                 options.max_bytes));
  }
  if (options.factor < 2 && options.step_bytes == 0) {
    throw UsageError("-f below 2 needs -i above 0, or sizes would not grow");
  }
  if (options.root < 0 || options.root >= ranks) {
    throw UsageError(
        fmt::format("-r {}: there are ranks 0 to {}", options.root, ranks - 1));
  }
  if (reduces(options.what)) {
    try {
      check_reduction(options.dtype, options.op);
    } catch (const std::invalid_argument& error) {
      throw UsageError(fmt::format("-o {} -d {}: {}", to_string(options.op),
                                   to_string(options.dtype), error.what()));
    }
  }
}

void measure_collective(CollectiveTarget& target, const PerfOptions& options,
                        const std::function<void(const PerfRow&)>& on_row) {
  check_options(options, target.size());
  const std::size_t element = size_of(options.dtype);
  const double parts = size_bytes(options.what, 1, 1, target.size());
  std::size_t last_count = 0;
  bool any = false;
  for (std::size_t bytes = options.min_bytes; bytes <= options.max_bytes;) {
    KnownData data;
    data.what = options.what;
    data.count = bytes / element / static_cast<std::size_t>(parts);
    data.dtype = options.dtype;
    data.op = options.op;
    data.root = options.root;
    data.seed = options.seed + bytes;
    // Sizes below an element for each rank would all be the same row.
    if (!any || data.count != last_count) {
      const Buffers buffers(target, data);
      PerfRow row;
      row.count = data.count;
      row.size_bytes =
          size_bytes(options.what, data.count, element, target.size());
      if (target.offers(options.what, false)) {
        row.out_of_place =
            measure(target, options, data, buffers, row.size_bytes, false);
      }
      if (target.offers(options.what, true)) {
        row.in_place =
            measure(target, options, data, buffers, row.size_bytes, true);
      }
      on_row(row);
      any = true;
      last_count = data.count;
    }
    const auto factor = static_cast<std::size_t>(options.factor);
    if (options.factor >= 2 && bytes > 0) {
      if (bytes > options.max_bytes / factor) break;  // nor past the type's end
      bytes *= factor;
    } else {
      bytes += std::max<std::size_t>(1, options.step_bytes);
    }
  }
}

std::string perf_heading() {
  return fmt::format(
      "#{:>11} {:>12} {:>9} {:>6} {:>5}   {:^32}   {:^32}\n"
      "#{:>11} {:>12} {:>9} {:>6} {:>5}   {:>9} {:>7} {:>7} {:>6}   {:>9} "
      "{:>7} {:>7} {:>6}\n"
      "#{:>11} {:>12} {:>9} {:>6} {:>5}   {:>9} {:>7} {:>7} {:>6}   {:>9} "
      "{:>7} {:>7} {:>6}",
      "", "", "", "", "", "out-of-place", "in-place", "size", "count", "type",
      "redop", "root", "time", "algbw", "busbw", "#wrong", "time", "algbw",
      "busbw", "#wrong", "(B)", "(elements)", "", "", "", "(us)", "(GB/s)",
      "(GB/s)", "", "(us)", "(GB/s)", "(GB/s)", "");
}

std::string perf_line(const PerfOptions& options, const PerfRow& row) {
  return fmt::format("{:>12} {:>12} {:>9} {:>6} {:>5}   {}   {}",
                     static_cast<std::uint64_t>(row.size_bytes), row.count,
                     to_string(options.dtype),
                     reduces(options.what) ? to_string(options.op) : "none",
                     rooted(options.what) ? options.root : -1,
                     half_line(row.out_of_place), half_line(row.in_place));
}

}  // namespace dai::hardware
