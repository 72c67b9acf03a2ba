"""What INT8 costs in what is learnt: the loss over answers that training has not seen, of an adapter
trained and evaluated over INT8 weights against one over dense weights.

usage: qlora_loss.py ENGINE MODEL.gguf OUT.json [--seeds N] [--steps N]

A seed decides the first values and the order of the data, alike for both.
"""
import argparse
import json
import statistics
import sys
import tempfile

from training import SOURCE, THREADS, Bounds, pipeline, run, save, settings, table, train

parser = argparse.ArgumentParser()
parser.add_argument("engine")
parser.add_argument("model")
parser.add_argument("out")
parser.add_argument("--seeds", type=int, default=1)
parser.add_argument("--steps", type=int, default=200)
args = parser.parse_args()
DATA, HELD_OUT = f"{SOURCE}/data/short-answers.jsonl", f"{SOURCE}/data/short-answers-held-out.jsonl"


def evaluate_int8(folder):
    """evaluate.pbtxt with the INT8 weights of finetune-qlora beneath the adapter."""
    text = open(pipeline("evaluate")).read()
    plain = 'resource { name: "tuned"  from: "base"  lora { } }\n'
    if text.count(plain) != 1:
        sys.exit(f"{pipeline('evaluate')} has no line {plain!r} to put int8 before")
    path = f"{folder}/evaluate-int8.pbtxt"
    with open(path, "w") as f:
        f.write(text.replace(plain, 'resource { name: "small"  from: "base"  int8 { } }\n' +
                             plain.replace('"base"', '"small"')))
    return path


def held_out(path, folder, **values):
    out = f"{folder}/loss.json"
    run([args.engine, "run", path, HELD_OUT,
         *settings(dict(model=args.model, threads=THREADS, out=out, **values))])
    return json.load(open(out))


results = {"dense": [], "INT8": []}
with tempfile.TemporaryDirectory() as folder:
    ways = {"dense": ("finetune-lora", pipeline("evaluate")),
            "INT8": ("finetune-qlora", evaluate_int8(folder))}
    before = {way: held_out(path, folder, plain="true") for way, (_, path) in ways.items()}
    for seed in range(args.seeds):
        for way, (name, path) in ways.items():
            adapter = f"{folder}/{way}-{seed}"
            made = train(args.engine, pipeline(name), DATA, folder, model=args.model,
                         steps=args.steps, seed=seed, out=adapter)
            made["held_out"] = held_out(path, folder, adapter=adapter)
            results[way].append(made)

isa = results["dense"][0]["isa"]
losses = {way: [r["held_out"]["loss"] for r in runs] for way, runs in results.items()}
print(f"{args.steps} steps over short-answers, {args.seeds} seeds, {THREADS} threads, isa {isa}; "
      f"loss over {before['dense']['tokens']} held-out tokens\n")
table(["weights", "before", *(f"seed {s}" for s in range(args.seeds)), "s a step", "peak, MiB"],
      [[way, f"{before[way]['loss']:.4f}", *(f"{loss:.4f}" for loss in losses[way]),
        f"{statistics.median(s for r in runs for s in r['seconds']):.2f}",
        f"{max(r['peak_bytes'] for r in runs) / 2**20:.0f}"] for way, runs in results.items()])
bounds = Bounds()
learnt = all(loss < before[way]["loss"] for way in losses for loss in losses[way])
bounds.add("held-out loss, mean over seeds: how far INT8 / dense is from 1",
           abs(statistics.mean(losses["INT8"]) / statistics.mean(losses["dense"]) - 1), 0.005, True,
           learnt)
bounds.print()
save(args.out, dict(isa=isa, threads=THREADS, steps=args.steps, before=before, bounds=bounds.rows,
                    results=results))
