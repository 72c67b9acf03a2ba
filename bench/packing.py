"""What packing brings: texts of log-normal length (median 90 tokens, the 99th percentile 512) in
batches of 8 rows of at most 512 tokens, several texts a row against one a row.

usage: packing.py ENGINE MODEL.gguf OUT.json [--rounds N] [--examples N]

Each run trains on every text once. What counts are the tokens of the texts, not what rows are filled
up with, and the time of all steps but each run's first, which warms up, and last, which may be a
part. Texts are stretches of this
repository's documents; a seed decides their lengths. The learning rate is 0, so that the loss over
all texts must be the same with and without packing.
"""
import argparse
import json
import math
import random
import statistics
import sys
import tempfile

from training import SOURCE, THREADS, Bounds, pipeline, run, save, table, train

BATCH, SEQUENCE, MEDIAN, P99, SEED = 8, 512, 90, 512, 1

parser = argparse.ArgumentParser()
parser.add_argument("engine")
parser.add_argument("model")
parser.add_argument("out")
parser.add_argument("--rounds", type=int, default=3)
parser.add_argument("--examples", type=int, default=192)
args = parser.parse_args()
# Packed, about 35 of them fill a batch.
if args.examples < 128:
    sys.exit("--examples: at least 128, since packed batches hold 35 and two of them are left out")


def write(path, texts):
    with open(path, "w") as f:
        for text in texts:
            f.write(json.dumps({"text": text}) + "\n")


def check(path):
    out, _ = run([args.engine, "data", "check", path, "--model", args.model, "--sequence", SEQUENCE,
                  "--json"])
    return json.loads(out)


def make(path):
    """Lengths are drawn in tokens and written in words, of which each has so many on average."""
    words = []
    for name in ("README.md", "docs/plugins.md", "docs/pipelines.md", "docs/architecture.md"):
        words += open(f"{SOURCE}/{name}").read().split()
    write(path, [" ".join(words)])
    tokens_of_word = check(path)["tokens"]["total"] / len(words)
    draw = random.Random(SEED)
    sigma = math.log(P99 / MEDIAN) / statistics.NormalDist().inv_cdf(0.99)
    texts = []
    for _ in range(args.examples):
        length = draw.lognormvariate(math.log(MEDIAN), sigma)
        count = max(2, min(round(length / tokens_of_word), len(words)))
        begin = draw.randrange(len(words) - count + 1)
        texts.append(" ".join(words[begin:begin + count]))
    write(path, texts)
    return check(path)


def epoch(folder, data, pack):
    """Without a count of steps the run would go on: the data ends it."""
    return train(args.engine, pipeline("finetune-lora"), data, folder, model=args.model,
                 pack=pack, batch=BATCH, sequence=SEQUENCE, shuffle="false", lr=0, steps=1000000,
                 checkpoint="EVERY_BLOCK", data__dataset__epochs=1)


def mean_loss(r):
    return sum(a * b for a, b in zip(r["loss"], r["tokens"])) / sum(r["tokens"])


def rate(r):
    return sum(r["tokens"][1:-1]) / sum(r["seconds"][1:-1])


results = {"FILL": [], "NONE": []}
with tempfile.TemporaryDirectory() as folder:
    data = f"{folder}/texts.jsonl"
    found = make(data)
    for r in range(args.rounds):
        for pack in results if r % 2 == 0 else reversed(results):
            results[pack].append(epoch(folder, data, pack))
            print(f"round {r + 1}, {pack}: {rate(results[pack][-1]):.0f} tokens/s", file=sys.stderr,
                  flush=True)

isa = results["FILL"][0]["isa"]
tokens = found["tokens"]
print(f"{args.examples} texts of {tokens['median']} tokens (median; 99 %: {tokens['p99']}, greatest "
      f"{tokens['max']}), batches of {BATCH} rows of at most {SEQUENCE}, {args.rounds} rounds, "
      f"{THREADS} threads, isa {isa}\n")
table(["pack", "tokens/s", "steps", "tokens a step", "loss over all", "peak, MiB"],
      [[pack, f"{statistics.median(map(rate, runs)):.0f}", len(runs[0]["loss"]),
        f"{sum(runs[0]['tokens']) / len(runs[0]['tokens']):.0f}", f"{mean_loss(runs[0]):.6f}",
        f"{statistics.median(r['peak_bytes'] for r in runs) / 2**20:.0f}"]
       for pack, runs in results.items()])
apart = max(abs(mean_loss(a) - mean_loss(b)) for a in results["FILL"] for b in results["NONE"])
same = apart <= 1e-4 and sum(results["FILL"][0]["tokens"]) == sum(results["NONE"][0]["tokens"])
bounds = Bounds()
bounds.add("tokens/s: pack FILL / NONE",
           statistics.median(rate(a) / rate(b) for a, b in zip(results["FILL"], results["NONE"])),
           2.5, False, same)
bounds.print()
save(args.out, dict(isa=isa, threads=THREADS, batch=BATCH, sequence=SEQUENCE, texts=found,
                    largest_difference=apart, bounds=bounds.rows, results=results))
