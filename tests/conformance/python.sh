#!/usr/bin/env bash
# tests/conformance/python.sh BUILD_FOLDER SOURCES
#
# The Python example of the SDK: over pipes, each answer before the next question is asked, come the
# answers that a file of requests gets.
set -euo pipefail
cd "$2"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
timeout 120 python3 sdk/samples/python/ask.py "$1/bin/engine" pipelines/batch.pbtxt \
  "What is gravity?" "Name a colour." >"$work/piped"
printf '{"prompt": "%s"}\n' "What is gravity?" "Name a colour." >"$work/in.jsonl"
"$1/bin/engine" run pipelines/batch.pbtxt "$work/in.jsonl" --set out="$work/out.jsonl" --set max_tokens=24
python3 - "$work" <<'PY'
import json, sys
work = sys.argv[1]
answers = [json.loads(line)["text"] for line in open(work + "/out.jsonl")]
expected = "".join(f"{q} -> {a}\n" for q, a in zip(["What is gravity?", "Name a colour."], answers))
piped = open(work + "/piped").read()
assert len(answers) == 2 and piped == expected, (piped, expected)
PY
