// SPDX-License-Identifier: Apache-2.0

// Who sends what to whom, and when which algorithm is the fastest.

#include "ch02_hardware/explorer/explorer_app.h"
#include "common/app.h"

int main(int argc, char** argv) {
  dai::hardware::ExplorerOptions options;
  dai::AppSpec spec{
      .name = "ch02_collective_explorer",
      .shows =
          "every algorithm step by step (--explain), or measured against "
          "the alpha-beta model, and the sizes where another one wins",
      .example =
          "scripts/book run ch02_collective_explorer -- --explain ring "
          "--ranks 4"};
  spec.declare = [&](dai::OptionSet& set) { declare(set, options); };
  return dai::run_app(argc, argv, spec, [&](dai::App& app) {
    dai::hardware::run_explorer(app, options);
  });
}
