#!/usr/bin/env python3
"""scripts/abi_layout.py VERSION [CC]

Prints the layout of the C ABI as the headers in sdk/include have it now: each struct with its size,
each member with offset and size, each enumerator and each extension or type id. A release of the SDK
stores it as tests/abi/layout_MAJOR_MINOR.inc, where a test holds later headers to it, with the sizes
in sdk/include/engine/abi_MAJOR_MINOR.h. VERSION is "1.0".
"""
import pathlib
import re
import subprocess
import sys
import tempfile

HEADERS = ["abi.h", "plugin.h", "types.h"] + [
    f"ext/{name}.h" for name in
    ("async", "autograd", "kv", "log", "metrics", "model", "nodes", "resources", "site", "tasks",
     "transforms")]


def strip_comments(text):
    """And lines of the preprocessor within structs, which hide what came later from old targets."""
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.S)
    return re.sub(r"^#(if ENGINE_ABI_TARGET|endif).*$", "", text, flags=re.M)


def members(body):
    """Names of the members of a struct's body, in order."""
    names = []
    depth, part = 0, ""
    parts = []
    for c in body:
        depth += (c in "({") - (c in ")}")
        if c == ";" and depth == 0:
            parts.append(part.strip())
            part = ""
        else:
            part += c
    for declaration in filter(None, parts):
        function = re.match(r"[^(]*\(\*\s*(\w+)\)", declaration)
        if function:
            names.append(function.group(1))
            continue
        for piece in declaration.split(","):
            names.append(re.search(r"(\w+)\s*(\[\w+\])?$", piece.strip()).group(1))
    return names


def main():
    version = sys.argv[1].replace(".", "_")
    compiler = sys.argv[2] if len(sys.argv) > 2 else "cc"
    include = pathlib.Path(__file__).resolve().parent.parent / "sdk/include"
    structs, enums, ids = [], [], []
    for header in HEADERS:
        text = strip_comments((include / "engine" / header).read_text())
        for body, name in re.findall(r"typedef struct \w+ \{(.*?)\n\} (\w+);", text, re.S):
            structs.append((name, members(body)))
        for body, _ in re.findall(r"typedef enum \w+ \{(.*?)\} (\w+);", text, re.S):
            enums += re.findall(r"(ENGINE_\w+)\s*=", body)
        ids += re.findall(r'#define (ENGINE_(?:EXT|TYPE)_\w+) "', text)
    lines = ["#include <stdio.h>"] + [f'#include "engine/{h}"' for h in HEADERS]
    lines.append("int main(void) {")
    for name, fields in structs:
        lines.append(f'printf("STRUCT({name}, %zu)\\n", sizeof({name}));')
        for field in fields:
            lines.append(f'printf("MEMBER({name}, {field}, %zu, %zu)\\n", offsetof({name}, {field}),'
                         f" sizeof((({name}*)0)->{field}));")
    for name in enums:
        lines.append(f'printf("VALUE({name}, %d)\\n", (int){name});')
    for name in ids:
        lines.append(f'printf("TEXT({name}, \\"%s\\")\\n", {name});')
    lines.append("}")
    with tempfile.TemporaryDirectory() as folder:
        source = pathlib.Path(folder) / "layout.c"
        source.write_text("\n".join(lines))
        subprocess.run([compiler, "-std=c11", f"-I{include}", source, "-o", f"{folder}/layout"],
                       check=True)
        out = subprocess.run([f"{folder}/layout"], check=True, capture_output=True, text=True).stdout
    print(f"// What release {sys.argv[1]} of the SDK froze; made by scripts/abi_layout.py {sys.argv[1]}.")
    print(out, end="")


if __name__ == "__main__":
    main()
