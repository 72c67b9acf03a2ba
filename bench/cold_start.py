"""From the start of a process to the end of its first training step, beside PEFT.

usage: cold_start.py ENGINE MODEL.gguf PYTHON_OF_THE_PEERS OUT.json [--rounds N]

One step of LoRA over 1 x 64 tokens, so that little of the time is the step. Both load the GGUF file,
which transformers decodes in Python, and a Hugging Face folder of the same weights in F32, its
fastest way; the bound is over the latter. The files are in the page cache. What ends the time is the
line that each prints after the step, with a loss that must agree.
"""
import argparse
import re
import statistics
import subprocess
import sys
import tempfile
import time

from training import (ENVIRONMENT, SOURCE, THREADS, Bounds, machine, pipeline, run, save, settings,
                      table)

SEQUENCE = 64

parser = argparse.ArgumentParser()
parser.add_argument("engine")
parser.add_argument("model")
parser.add_argument("python")
parser.add_argument("out")
parser.add_argument("--rounds", type=int, default=5)
args = parser.parse_args()


def until(command, pattern):
    """Seconds until a line with `pattern` on either output, and the number that it holds."""
    begin = time.monotonic()
    process = subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True, env=ENVIRONMENT, cwd=SOURCE)
    said = ""
    for line in process.stdout:
        said += line
        found = re.search(pattern, line)
        if found:
            seconds = time.monotonic() - begin
            process.communicate()
            return dict(seconds=seconds, loss=float(found.group(1)))
    sys.exit(f"{' '.join(map(str, command))} printed no step:\n{said}")


def ours(model, folder):
    return until([args.engine, "run", pipeline("finetune-lora"), f"{SOURCE}/LICENSE",
                  *settings(dict(model=model, steps=1, batch=1, sequence=SEQUENCE, pack="NONE",
                                 shuffle="false", threads=THREADS, checkpoint="NONE"))],
                 r"^step 1 of 1: loss ([0-9.]+),")


def theirs(model, folder):
    return until([args.python, f"{SOURCE}/tests/parity/make_lora_curve.py", model,
                  f"{SOURCE}/LICENSE", f"{folder}/curve.json", "--steps", 1, "--batch", 1,
                  "--sequence", SEQUENCE, "--loss", "own"], r"^1 ([0-9.]+)$")


results = {}
with tempfile.TemporaryDirectory() as folder:
    dense = f"{folder}/model"
    run([args.engine, "convert", args.model, dense, "--type", "F32"])
    sides = {("engine", "GGUF"): (ours, args.model), ("PEFT", "GGUF"): (theirs, args.model),
             ("engine", "folder"): (ours, dense), ("PEFT", "folder"): (theirs, dense)}
    # One round more, which fills the page cache.
    for r in range(args.rounds + 1):
        for side, (measure, model) in sides.items():
            measured = measure(model, folder)
            if r > 0:
                results.setdefault(" ".join(side), []).append(measured)
isa = machine(args.engine, args.model)


def seconds(name):
    return statistics.median(r["seconds"] for r in results[name])


apart = max(abs(r["loss"] - results["PEFT folder"][0]["loss"])
            for runs in results.values() for r in runs)
print(f"one step of 1 x {SEQUENCE}, {args.rounds} rounds, {THREADS} threads, isa {isa}; largest "
      f"difference of a loss {apart:.1e}\n")
table(["model", "engine, s", "PEFT, s", "ratio"],
      [[kind, f"{seconds('engine ' + kind):.2f}", f"{seconds('PEFT ' + kind):.2f}",
        f"{seconds('PEFT ' + kind) / seconds('engine ' + kind):.1f}x"]
       for kind in ("GGUF", "folder")])
bounds = Bounds()
bounds.add("first step from a folder: PEFT / engine",
           seconds("PEFT folder") / seconds("engine folder"), 5, False, apart <= 1e-4)
bounds.print()
save(args.out, dict(isa=isa, threads=THREADS, largest_difference=apart, bounds=bounds.rows,
                    results=results))
