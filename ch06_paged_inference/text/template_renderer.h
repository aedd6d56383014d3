// SPDX-License-Identifier: Apache-2.0
#pragma once

// Runs a parsed template. It cannot loop for ever or fill the memory, whatever
// the template says: steps and output are counted.
// Throws UsageError that begins with `where` and names the line: what the
// template itself raises (raise_exception), values that do not fit, too much.

#include <string_view>

#include "ch06_paged_inference/text/template_syntax.h"

namespace dai::paged {

// `globals` are the names that the template finds; raise_exception, namespace,
// range and strftime_now are there as well.
MarkedText render_template(const TemplateBlock& body, const ValueDict& globals,
                           std::string_view where);

}  // namespace dai::paged
