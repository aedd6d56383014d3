#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes unicode_tables.inc: the ranges of \\p{L} and \\p{N}.

  make_unicode_tables.py > unicode_tables.inc

A tokenizer's regular expressions were run by a library with some version of
Unicode, and a letter of one version is no letter of another: the version is
part of the tokenizer. Ours is 16.0.0, that of the expressions in Python's
`tokenizers` 0.22. Python 3.14's unicodedata has it; with an older Python,
install the package unicodedata2, version 16.0.0.
"""
import sys

try:
    import unicodedata2 as unicodedata
except ImportError:
    import unicodedata

VERSION = "16.0.0"


def ranges(category):
    """[first, last] of every run of code points in a general category."""
    found = []
    for code in range(sys.maxunicode + 1):
        if unicodedata.category(chr(code))[0] != category:
            continue
        if found and found[-1][1] == code - 1:
            found[-1][1] = code
        else:
            found.append([code, code])
    return found


def table(name, category):
    lines, line = [], "   "
    for first, last in ranges(category):
        item = f" {{{first:#x}, {last:#x}}},"
        if len(line) + len(item) > 80:
            lines.append(line)
            line = "   "
        line += item
    lines.append(line)
    return (f"constexpr CodePointRange {name}[] = {{\n"
            + "\n".join(lines) + "\n};\n")


def main():
    if unicodedata.unidata_version != VERSION:
        print(f"this Python knows Unicode {unicodedata.unidata_version}, "
              f"wanted {VERSION}: pip install unicodedata2=={VERSION}",
              file=sys.stderr)
        return 2
    print("// SPDX-License-Identifier: Apache-2.0\n"
          f"// Unicode {VERSION}, written by make_unicode_tables.py.\n")
    print(table("kLetterRanges", "L"))
    print(table("kNumberRanges", "N"), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
