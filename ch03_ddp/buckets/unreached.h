// SPDX-License-Identifier: Apache-2.0
#pragma once

// A parameter that backward does not reach gets no gradient, and every rank
// that did reach it waits for this one's. The message that users of data
// parallelism ask for most: which parameter, and where in the model the way
// stopped.
//
//   if (auto text = describe_unreached(parameters, reached); !text.empty())
//     throw std::runtime_error(...);
//
//   3 of 75 parameters got no gradient: model.layers.2.mlp.up_proj.weight, ...;
//   the first module not reached is model.layers.2.mlp

#include <string>
#include <vector>

#include "ch01_intro/named_parameter.h"

namespace dai::ddp {

// The outermost module of `name` (its dotted prefixes) none of whose parameters
// was reached; `name` itself where it has no such module.
std::string first_module_not_reached(
    const std::vector<intro::NamedParameter>& parameters,
    const std::vector<bool>& reached);

// One line, or empty when all were reached. Parameters in the order of their
// model's registration, which is that of its forward.
std::string describe_unreached(
    const std::vector<intro::NamedParameter>& parameters,
    const std::vector<bool>& reached);

}  // namespace dai::ddp
