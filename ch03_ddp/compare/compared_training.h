// SPDX-License-Identifier: Apache-2.0
#pragma once

// One of several trainings that are looked at side by side: the same decoder
// from the same weights on the same text, each with a sync of its own. They
// take turns step by step, so that a machine that is slow for a while is slow
// for all of them.
//
//   std::vector<std::unique_ptr<ComparedTraining>> all;
//   for (each variant) all.push_back(std::make_unique<ComparedTraining>(
//       name, group, corpus, sizes, make));
//   train_side_by_side(all, group, sizes, "climb");
//   all[0]->medians().exposed_ms
//
// Collective; times are this rank's.

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "ch01_intro/corpus/token_corpus.h"
#include "ch01_intro/decoder/decoder.h"
#include "ch01_intro/decoder/decoder_parts.h"
#include "ch01_intro/trainer/language_task.h"
#include "ch01_intro/trainer/trainer.h"
#include "ch03_ddp/ladder/timed_sync.h"

namespace dai {
class Trace;
}

namespace dai::ddp {

struct ComparedSizes {
  intro::DecoderConfig decoder;
  const intro::DecoderOps* ops = intro::DecoderPartsOptions{}.ops;
  std::int64_t steps = 20;
  std::int64_t untimed_steps = 3;    // of them: buckets are filled anew
  std::int64_t microbatches = 12;    // a step, over all ranks
  std::int64_t microbatch_size = 4;  // windows
  double learning_rate = 1e-3;
  std::uint64_t seed = 1234;
  Trace* trace = nullptr;  // gets a span of each step, and of its parts

  // Throws UsageError.
  void check(int ranks) const;
  intro::TrainerOptions trainer() const;
};

// Medians over the steps that count; times in milliseconds.
struct StepMedians {
  double step_ms = 0;
  double backward_ms = 0;  // computing, of the last microbatch
  double wire_ms = 0;      // time in which something was on the wire
  double exposed_ms = 0;   // from the last gradient to the means
  double hidden = 0;       // of wire_ms, behind backward
};

class ComparedTraining {
 public:
  using MakeSync = std::function<std::unique_ptr<intro::GradientSync>(
      const std::vector<intro::NamedParameter>&)>;

  // Keeps references to group and corpus.
  ComparedTraining(std::string name, ProcessGroup& group,
                   const intro::TokenCorpus& corpus, const ComparedSizes& sizes,
                   const MakeSync& make);

  // `counts`: into the medians and timelines.
  void step(bool counts);

  const std::string& name() const { return name_; }
  StepMedians medians() const;
  const std::vector<double>& losses() const { return losses_; }  // [steps]
  // Of the steps that count.
  const std::vector<double>& step_ms() const { return step_ms_; }
  const std::vector<StepTimeline>& timelines() const { return timelines_; }
  // Of the first step: flat, as the optimizer took them, and their norm before
  // clipping. Adam hides a wrong scale in its weights; these do not.
  const at::Tensor& first_gradients() const { return first_gradients_; }
  double first_gradient_norm() const { return first_norm_; }
  // What this rank's TCP sent in the last step, and in all of it, the loss's
  // few numbers too.
  std::int64_t tcp_bytes() const { return tcp_bytes_; }
  const std::vector<intro::NamedParameter>& parameters() const {
    return decoder_.parameters();
  }
  // Mean over the first windows that were held back, nats a token.
  double validation_loss(std::int64_t windows);

 private:
  const std::string name_;
  ProcessGroup& group_;
  const intro::TokenCorpus& corpus_;
  const ComparedSizes sizes_;
  intro::DecoderParts parts_;
  const intro::Decoder decoder_;
  intro::LanguageTask task_;
  TimedSync sync_;
  intro::WholeParameters view_;
  intro::Trainer trainer_;
  std::vector<double> losses_, step_ms_;
  std::vector<StepTimeline> timelines_;
  at::Tensor first_gradients_;
  double first_norm_ = 0;
  std::int64_t tcp_bytes_ = 0;
};

// |a - b| of the first gradients or, where that is more, of their norms; of the
// largest gradient and of the norm.
double first_gradients_apart(const ComparedTraining& a,
                             const ComparedTraining& b);

// All steps of all of them, in turns.
void train_side_by_side(
    const std::vector<std::unique_ptr<ComparedTraining>>& all,
    ProcessGroup& group, const ComparedSizes& sizes, const char* progress);

}  // namespace dai::ddp
