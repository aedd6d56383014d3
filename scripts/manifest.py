#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The apps of this repository, for `scripts/book list`, `run` and `tour`.

  manifest.py list BUILD [--json] [--chapter chNN_name]
  manifest.py names BUILD [--chapter chNN_name]    the apps built here
  manifest.py ranks BUILD APP      the smoke run's ranks; 2 = no such app,
                                   77 = not built here (and why)
  manifest.py suggest WORD CANDIDATE...

CMake writes BUILD/manifest.json at configure time. The chapters' dai_app()
calls are read as well: they are all there is before the first configure,
and they name an app that was added since.
"""
import difflib
import glob
import json
import os
import re
import signal
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def apps_in_cmake(root):
    """What the dai_app() calls say."""
    found = {}
    for path in sorted(glob.glob(os.path.join(root, "ch*", "CMakeLists.txt"))):
        with open(path, encoding="utf-8") as file:
            text = re.sub(r"#.*", "", file.read())
        for call in re.finditer(r"\bdai_app\(([^)]*)\)", text):
            words = call[1].split()
            if not words or "$" in words[0]:
                continue
            app = {"name": words[0],
                   "chapter": os.path.basename(os.path.dirname(path)),
                   "ranks": 1, "gpus": 0, "needs": [], "built": None}
            for key, word in (("ranks", "RANKS"), ("gpus", "GPUS")):
                if word in words[:-1]:
                    value = words[words.index(word) + 1]
                    app[key] = int(value) if value.isdigit() else app[key]
            if "NEEDS" in words:
                for word in words[words.index("NEEDS") + 1:]:
                    if word in ("RANKS", "GPUS", "TIMEOUT", "DEPS"):
                        break
                    app["needs"].append(word)
            found[app["name"]] = app
    return found


def load(build, root=ROOT):
    apps = apps_in_cmake(root)
    path = os.path.join(build, "manifest.json")
    if os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            for app in json.load(file)["apps"]:
                apps[app["name"]] = app
    return sorted(apps.values(), key=lambda a: (a["chapter"], a["name"]))


def suggestion(word, candidates):
    """" (did you mean 'X'?)" or nothing."""
    starts = [c for c in candidates if word and c.startswith(word)]
    inside = [c for c in candidates if len(word) > 2 and word in c]
    near = difflib.get_close_matches(word, candidates, n=1, cutoff=0.55)
    best = (starts or near or inside)[:1]
    return f" (did you mean '{best[0]}'?)" if best else ""


def state(app):
    if app.get("built") is None:
        return "not configured"
    if app["built"]:
        return "yes"
    return "no: " + (app.get("reason") or "unknown reason")


def show(apps):
    rows = [("chapter", "app", "ranks", "GPUs", "builds here")]
    rows += [(a["chapter"], a["name"], str(a.get("ranks", 1)),
              str(a.get("gpus", 0)), state(a)) for a in apps]
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    for row in rows:
        cells = [row[i].ljust(widths[i]) for i in range(4)] + [row[4]]
        print("  ".join(cells).rstrip())


def main(arguments):
    action = arguments[0] if arguments else ""
    if action == "suggest":
        words = [a for a in arguments[1:] if a != "--"]
        print(suggestion(words[0], words[1:]), end="")
        return 0
    if action not in ("list", "names", "ranks") or len(arguments) < 2:
        print(__doc__, file=sys.stderr)
        return 2
    apps = load(arguments[1])
    if action != "ranks":
        for option in arguments[2:]:
            if option.startswith("--chapter="):
                apps = [a for a in apps if a["chapter"] == option[10:]]
        if action == "names":
            print("\n".join(a["name"] for a in apps if a.get("built")))
        elif "--json" in arguments[2:]:
            print(json.dumps({"schema": 1, "apps": apps}, indent=1))
        else:
            show(apps)
        return 0
    name = arguments[2]
    for app in apps:
        if app["name"] == name:
            if app.get("built") is False:
                print(f"book: {name} is not built here: "
                      f"{app.get('reason') or 'unknown reason'}",
                      file=sys.stderr)
                return 77
            print(app.get("ranks", 1))
            return 0
    print(f"book: no app '{name}'"
          f"{suggestion(name, [a['name'] for a in apps])}; "
          "scripts/book list shows them all", file=sys.stderr)
    return 2


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `list | head` is fine
    sys.exit(main(sys.argv[1:]))
