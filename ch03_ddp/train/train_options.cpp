// SPDX-License-Identifier: Apache-2.0
#include "ch03_ddp/train/train_options.h"

#include <fmt/format.h>

#include <chrono>

#include "ch01_intro/decoder/decoder_ops.h"
#include "common/errors.h"
#include "common/file.h"

namespace dai::ddp {

void TrainAppOptions::declare(OptionSet& set) {
  images = intro::kFashionMnistDir;
  set.add("--task", task, {"text", "images"},
          "a decoder on text, or a convolutional network on Fashion-MNIST");
  set.add("--sync", train.sync, sync_names(), "the rung of the ladder");
  set.add("--exchange", train.exchange.exchange, exchange_names(),
          "what happens to a bucket on its way; canonical: the same bits at "
          "every number of ranks");
  set.add("--bucket-mb", bucket_mb, "MiB that close a bucket");
  set.add("--first-bucket-mb", first_bucket_mb,
          "MiB that close the first one, of all syncs but reducer");
  set.add("--powersgd-rank", train.exchange.powersgd.rank, "of the factors");
  set.add("--powersgd-start", train.exchange.powersgd.start_iter,
          "plain steps before PowerSGD's", /*min=*/2);
  set.add("--steps", steps, "training steps; 0: the preset's", /*min=*/0);
  set.add("--microbatches", microbatches,
          "a step, over all ranks, a multiple of their number; 0: the preset's",
          /*min=*/0);
  set.add("--microbatch-size", microbatch_size,
          "windows or pictures a microbatch; 0: the preset's", /*min=*/0);
  set.add("--lr", learning_rate, "peak of the learning rate; 0: the preset's");
  set.add("--clip-norm", train.trainer.clip_norm, "0: no clipping");
  set.add("--validation-windows", train.validation_windows,
          "of text, a multiple of the ranks' microbatches");
  set.add("--model", model, "decoder: nano-1m, small-5m, bench-9m, ...");
  set.add("--rung", rung, {"naive", "fused"},
          "the decoder's operators: plain, or one pass each");
  set.add("--precision", precision, {"fp32", "bf16", "fp16"},
          "of matrix products; with fp16 the loss is scaled");
  set.add("--window", window, "tokens a window");
  set.add("--text", text,
          "UTF-8 file to learn from; without it the dictionary of dict-gcide");
  set.add("--text-bytes", text_bytes,
          "read no more of the text than that; 0: all of it", /*min=*/0,
          /*max=*/std::int64_t{1} << 40);
  set.add("--images", images, "folder of Fashion-MNIST's four files");
  set.add("--save", train.save,
          "safetensors file that receives the weights in the end");
  CheckpointOptions& checkpoints = train.checkpoints;
  set.add("--checkpoint-dir", checkpoints.folder,
          "folder that all ranks see: goes on from its newest whole "
          "checkpoint, and saves there");
  set.add("--save-every", checkpoints.every,
          "steps; 0: in the end and at SIGTERM or SIGUSR1 only", /*min=*/0);
  set.add("--keep-last", checkpoints.saver.keep.last, "newest checkpoints");
  set.add("--keep-every", checkpoints.saver.keep.every,
          "and those of steps that it divides; 0: none", /*min=*/0);
  set.add_flag("--save-in-the-foreground", save_in_the_foreground,
               "training waits until a checkpoint is on the disk");
  set.add_flag("--watch", watch,
               "the doctor (ch03_ddp/doctor/watch.h) watches: who holds the "
               "others up, and why");
  set.add("--end-after-verdict-s", watching.end_after_verdict_s,
          "with --watch: a rank that still hangs so long after a verdict ends; "
          "0: at its time-out",
          /*min=*/0.0);
  set.add("--flight-recorder", watching.flight_recorder,
          "with --watch: a folder for each rank's calls, for PyTorch's "
          "fr_trace");
  set.add_flag("--paced", paced,
               "train as many steps as each line on rank 0's stdin says and "
               "print their times: for side-by-side measurements");
  set.add("--windows-out", windows_out,
          "write the windows of --steps steps in the order of training, int32, "
          "for another program to train on");
  add_distributed_options(set, distributed);
  const auto preset = [&](const char* name, const char* of, int tokens,
                          Sizes of_text, Sizes of_images) {
    set.preset(name, [=, this] {
      model = of;
      window = tokens;
      text_sizes_ = of_text;
      image_sizes_ = of_images;
      if (std::string(name) == "smoke") {
        text_bytes = 1'000'000;
        train.validation_windows = 48;
      }
    });
  };
  preset("smoke", "nano-1m", 64, {10, 12, 1, 1e-2}, {10, 12, 8, 1e-3});
  preset("laptop", "nano-1m", 128, {1800, 12, 1, 8e-3}, {3000, 12, 16, 1e-3});
  preset("gpu24", "base-110m", 1024, {2000, 12, 4, 6e-4}, {3000, 12, 16, 1e-3});
  preset("gpu80", "large-730m", 1024, {2000, 24, 4, 3e-4},
         {3000, 12, 16, 1e-3});
  preset("node8x2", "base-110m", 1024, {2000, 48, 4, 6e-4},
         {3000, 48, 16, 1e-3});
}

TrainAppOptions::Sizes TrainAppOptions::sizes() const {
  Sizes sizes = is_text() ? text_sizes_ : image_sizes_;
  if (steps > 0) sizes.steps = steps;
  if (microbatches > 0) sizes.microbatches = microbatches;
  if (microbatch_size > 0) sizes.microbatch_size = microbatch_size;
  if (learning_rate > 0) sizes.learning_rate = learning_rate;
  return sizes;
}

std::string TrainAppOptions::to_string(std::uint64_t seed) const {
  const Sizes chosen = sizes();
  const std::string data =
      is_text() ? fmt::format("model={} rung={} window={} text_bytes={}", model,
                              rung, window, text_bytes)
                : std::string("model=cnn");
  return fmt::format(
      "task={} {} sync={} exchange={} bucket_mb={} first_bucket_mb={} "
      "steps={} microbatches={} microbatch_size={} lr={} clip_norm={} "
      "precision={} seed={} powersgd={}/{} validation_windows={}{}",
      task, data, train.sync, train.exchange.exchange, bucket_mb,
      first_bucket_mb, chosen.steps, chosen.microbatches,
      chosen.microbatch_size, chosen.learning_rate, train.trainer.clip_norm,
      precision, seed, train.exchange.powersgd.rank,
      train.exchange.powersgd.start_iter, train.validation_windows,
      paced ? " paced" : "");
}

TrainOptions TrainAppOptions::options(std::uint64_t seed) const {
  const Sizes chosen = sizes();
  TrainOptions options = train;
  options.exchange.caps = BucketCaps::of_mib(first_bucket_mb, bucket_mb);
  options.microbatch_size = chosen.microbatch_size;
  options.trainer.microbatches = chosen.microbatches;
  options.trainer.schedule = {.peak = chosen.learning_rate,
                              .warmup_steps = chosen.steps / 20,
                              .total_steps = chosen.steps};
  options.trainer.precision = intro::precision_from_string(precision);
  options.seed = seed;
  options.checkpoints.saver.asynchronous = !save_in_the_foreground;
  options.checkpoints.saver.timeout =
      std::chrono::seconds(distributed.timeout_s);
  options.checkpoints.config = config(seed);
  if (is_text()) {
    options.decoder = intro::decoder_config(model);
    options.ops = &intro::decoder_ops(rung);
  } else {
    options.validation_windows = 0;
    options.ops = &intro::naive_ops();  // convolutions have no rungs
    // A network that sees each picture a few times needs little of it.
    options.trainer.adamw.weight_decay = 0.01;
    options.trainer.adamw.beta2 = 0.999;
  }
  return options;
}

void TrainAppOptions::check_files(bool writes) const {
  if (paced && !is_text()) throw UsageError("--paced trains on --task text");
  if (paced && !train.checkpoints.folder.empty()) {
    throw UsageError("--paced saves no checkpoints");
  }
  if (!watch &&
      (!watching.flight_recorder.empty() || watching.end_after_verdict_s > 0)) {
    throw UsageError(
        "--flight-recorder and --end-after-verdict-s belong to --watch");
  }
  train.checkpoints.check();
  if (!train.checkpoints.folder.empty()) {
    const CheckpointStore made(train.checkpoints.folder);
  }
  if (!windows_out.empty() && !paced) {
    throw UsageError("--windows-out belongs to --paced");
  }
  for (const std::string& path : {train.save, windows_out}) {
    if (writes && !path.empty()) AtomicFile probe(path);  // leaves nothing
  }
}

// All that decides what is learnt. Neither ranks nor buckets nor syncs.
Metadata TrainAppOptions::config(std::uint64_t seed) const {
  const Sizes chosen = sizes();
  const auto number = [](auto value) { return fmt::format("{}", value); };
  Metadata config{{"task", task},
                  {"model", is_text() ? model : "cnn"},
                  {"steps", number(chosen.steps)},
                  {"microbatches", number(chosen.microbatches)},
                  {"microbatch_size", number(chosen.microbatch_size)},
                  {"lr", number(chosen.learning_rate)},
                  {"clip_norm", number(train.trainer.clip_norm)},
                  {"precision", precision},
                  {"seed", number(seed)}};
  if (is_text()) {
    config["window"] = number(window);
    config["text_bytes"] = number(text_bytes);
  }
  return config;
}

intro::TextCorpusOptions TrainAppOptions::corpus(std::uint64_t seed) const {
  return {.text = text,
          .text_bytes = text_bytes,
          .vocab_size = intro::decoder_config(model).vocab_size,
          .window = window,
          .seed = seed};
}

}  // namespace dai::ddp
