// SPDX-License-Identifier: Apache-2.0
#include "ch06_paged_inference/bottleneck/bottleneck_options.h"

#include "ch01_intro/placement/machine_roofs.h"
#include "ch06_paged_inference/bottleneck/step_work.h"
#include "common/torch/device.h"

namespace dai::paged {

void BottleneckOptions::declare(OptionSet& set) {
  set.add("--context", context, "tokens that a decode step looks back at", 2,
          4096);
  set.add("--prompt", prompt, "tokens of the longest prompt", 65, 4096);
  set.add("--repeats", repeats, "steps timed of each shape");
  set.add("--roof-seconds", roof_seconds, "to measure each roof of the machine",
          1e-3);
  set.add("--roofs", roofs, {"measured", "recorded"},
          "of this machine, or kept from another");
  set.add("--model", model.model, "as ch06_generate's");
  set.add("--device", model.device, {"auto", "cpu", "cuda"},
          "where to compute");
  set.preset("smoke", [this] {
    repeats = 1;
    roofs = "recorded";
    context = 64;
    prompt = 128;
  });
  set.preset("laptop", [] {});
}

intro::Roofline BottleneckOptions::roofline(const App& app) const {
  if (roofs == "recorded") return recorded_roofline();
  intro::RoofOptions options;
  options.device = choose_device(model.device, app.launch());
  options.bandwidth_seconds = roof_seconds;
  options.seed = app.seed();
  options.search.seconds = roof_seconds;
  intro::LayerMeasurement measured;
  intro::measure_roofs(options, measured);
  return measured.roofline();
}

}  // namespace dai::paged
