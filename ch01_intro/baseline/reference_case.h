// SPDX-License-Identifier: Apache-2.0
#pragma once

// The same ten steps in Python and here: weights by the same formula, the text
// of this repository's LICENSE a byte a token, AdamW, clipping, two
// microbatches a step. Two decoders: nano-1m, and two layers of it whose twelve
// heads share four key-value heads. What Python's PyTorch got
// (peers/reference_run.py) is committed in reference_nano.json and compiled in;
// every start of the app trains again and compares.
//
//   for (const ReferenceComparison& c :
//        compare_with_reference(fused_ops(), device)) {
//     app.check("max|loss - PyTorch's| / loss", c.loss_error, 1e-5);
//   }
//
// A gradient tensor is compared by its norm (relative to the norm), its largest
// absolute value and 64 elements that its name draws (relative to that value).
// Always float32, whatever the app trains in: bfloat16 has no reference.
// Throws UsageError for a reference of another schema or of other shapes.

#include <c10/core/Device.h>

#include <string>
#include <vector>

#include "ch01_intro/decoder/decoder_ops.h"

namespace dai::intro {

struct ReferenceComparison {
  std::string name;  // of the decoder that the case is, or is cut from
  std::int64_t layers = 0, heads = 0, kv_heads = 0;
  std::vector<double> losses;            // ours, a step each
  std::vector<double> reference_losses;  // Python's
  double loss_error = 0;                 // the largest, relative
  double norm_error = 0;       // of the gradients' norms, all steps; relative
  double gradient_error = 0;   // of step 1, relative to each tensor's maximum
  std::string worst_gradient;  // whose
  std::int64_t gradients = 0;  // tensors compared

  std::string decoder() const;    // "nano-1m, fp32, 2 layers, 12 heads over 4"
  std::string to_string() const;  // first and last loss, here and there
};

// About a second of training; one entry a decoder. Leaves the number of
// threads as it is: the tolerance covers what that changes.
std::vector<ReferenceComparison> compare_with_reference(const DecoderOps& ops,
                                                        at::Device device);

}  // namespace dai::intro
