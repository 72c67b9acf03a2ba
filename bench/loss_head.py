"""The loss head some rows at a time against whole, in time and memory, each a process of its own.

usage: loss_head.py LOSS_HEAD_BENCH OUT.json [--rounds N] [--repeats N]

Whole is measured twice: the engine's own code given all rows at once, and LibTorch's linear and
cross_entropy under autograd. Memory is what the process takes beyond the inputs.
"""
import argparse
import json
import statistics

from training import THREADS, Bounds, run, save, table

parser = argparse.ArgumentParser()
parser.add_argument("program")
parser.add_argument("out")
parser.add_argument("--rounds", type=int, default=3)
parser.add_argument("--repeats", type=int, default=5)
args = parser.parse_args()

results = {"chunked": [], "whole": [], "plain": []}
for r in range(args.rounds):
    for way in results if r % 2 == 0 else reversed(results):
        results[way].append(json.loads(run([args.program, way, THREADS, args.repeats])[0]))


def median(way, figure):
    return statistics.median(r[figure] for r in results[way])


first = results["chunked"][0]
print(f"{first['rows']} rows of {first['hidden']}, {first['vocab']} classes, F32, {args.rounds} "
      f"rounds, {THREADS} threads, isa {first['isa']}\n")
table(["", "s", "memory, MiB", "loss", "gradient, sum of absolute values"],
      [[way, f"{median(way, 'seconds'):.3f}", f"{median(way, 'peak_bytes') / 2**20:.0f}",
        f"{runs[0]['loss'] / first['rows']:.6f}", f"{runs[0]['gradient']:.5g}"]
       for way, runs in results.items()])
bounds = Bounds()
for way in ("whole", "plain"):
    same = all(abs(results[way][0][f] / first[f] - 1) <= 1e-4 for f in ("loss", "gradient"))
    for figure, bound in (("peak_bytes", 0.15), ("seconds", 1.05)):
        bounds.add(f"{figure}: chunked / {way}", median("chunked", figure) / median(way, figure),
                   bound, True, same)
bounds.print()
save(args.out, dict(isa=first["isa"], threads=THREADS, bounds=bounds.rows, results=results))
