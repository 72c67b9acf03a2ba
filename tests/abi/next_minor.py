#!/usr/bin/env python3
"""tests/abi/next_minor.py HEADERS FOLDER

Copies the SDK's headers as the next minor release might have them: the number is one higher, and
every struct that may grow has a member more at its tail, hidden from whoever targets an older
release. A host and plugins built with these are the rehearsal of a release.
"""
import pathlib
import re
import shutil
import sys

CLOSED = {"engine_str"}


def main():
    source, target = map(pathlib.Path, sys.argv[1:])
    fresh = target.with_name(target.name + ".part")
    shutil.rmtree(fresh, ignore_errors=True)
    shutil.copytree(source, fresh)
    abi = fresh / "engine/abi.h"
    text = abi.read_text()
    minor = int(re.search(r"#define ENGINE_ABI_MINOR (\d+)", text).group(1)) + 1
    abi.write_text(re.sub(r"#define ENGINE_ABI_MINOR \d+", f"#define ENGINE_ABI_MINOR {minor}", text))
    grown = 0
    for header in fresh.rglob("*.h"):
        text = header.read_text()

        def grow(match):
            nonlocal grown
            if match.group(2) in CLOSED:
                return match.group(0)
            grown += 1
            return (f"{match.group(1)}\n#if ENGINE_ABI_TARGET >= ENGINE_ABI_VERSION("
                    f"ENGINE_ABI_MAJOR, {minor})\n  uint64_t rehearsed_{minor};\n#endif\n}} {match.group(2)};")

        header.write_text(
            re.sub(r"(typedef struct \w+ \{(?:(?!\n\}).)*)\n\} (\w+);", grow, text, flags=re.S))
    if grown < 50:
        sys.exit(f"only {grown} structs were found to grow")
    # Files keep their times while nothing changed, so that nothing is built again.
    for header in fresh.rglob("*.h*"):
        old = target / header.relative_to(fresh)
        if old.exists() and old.read_text() == header.read_text():
            shutil.copystat(old, header)
    shutil.rmtree(target, ignore_errors=True)
    fresh.rename(target)


if __name__ == "__main__":
    main()
