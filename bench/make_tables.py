# Writes the tables of docs/performance.md, between its markers, from the raw results.
#   make_tables.py RESULTS_FOLDER DOCUMENT
import json
import os
import re
import statistics
import sys

folder, document = sys.argv[1:3]


def load(name):
    path = os.path.join(folder, name + ".json")
    return json.load(open(path)) if os.path.exists(path) else None


def median(variant, figure):
    values = variant["figures"].get(figure)
    return statistics.median(values) if values else None


def number(value):
    if value is None:
        return "-"
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 1 else f"{value:.3f}"


def machine(isa):
    return isa.split(" ")[0] + (" with AMX" if "amx_int8" in isa else "")


def bandwidth(size):
    """GB/s of bandwidth_bench at so many MiB."""
    path = os.path.join(folder, "bandwidth.txt")
    if not os.path.exists(path):
        return None
    rates = re.findall(rf", {size} MiB: ([0-9.]+) GB/s", open(path).read())
    return float(rates[-1]) if rates else None


def mib(value):
    return "-" if value is None else f"{value / 2**20:.0f}"


ROWS = [  # file, what, what it is measured by, unit
    ("decode_q8_0", "decode, 1 stream, Q8_0", "decode_tokens_per_s"),
    ("decode_q4_1", "decode, 1 stream, Q4_1", "decode_tokens_per_s"),
    ("depth_q8_0", "decode at context 1024, Q8_0", "decode_tokens_per_s"),
    ("prefill_q8_0", "prefill 512, Q8_0", "prefill_tokens_per_s"),
    ("prefill_int8", "prefill 512, INT8 (groups of 64)", "prefill_tokens_per_s"),
    ("batch_q8_0", "aggregate decode, Q8_0", "decode_tokens_per_s"),
    ("batch_int8", "aggregate decode, INT8 (groups of 64)", "decode_tokens_per_s"),
    ("decode_bf16", "decode, 1 stream, BF16", "decode_tokens_per_s"),
]


def against_peer():
    """Figures of other machines are kept beside as NAME.MACHINE.json."""
    lines = ["| figure | machine | engine, tokens/s | llama.cpp, tokens/s | ratio [95 %] | engine's share of a step | peak MiB, engine / llama.cpp |",
             "|---|---|---|---|---|---|---|"]
    files = sorted(f.removesuffix(".json") for f in os.listdir(folder) if f.endswith(".json"))
    rows = [(f, what, figure) for name, what, figure in ROWS for f in files
            if f.split(".")[0] == name]
    for name, what, figure in rows:
        data = load(name)
        for point in data["points"]:
            on = point["variants"][0]
            peer = next((v for v in point["variants"] if v.get("peer")), None)
            label = what + (f", {point['x']} streams" if "x" in point else "")
            ratio = "-"
            if peer and "gain" in peer:
                gain = peer["gain"]
                ratio = f"{gain['median']:.2f}x [{gain['low']:.2f}, {gain['high']:.2f}]"
            share = median(on, "engine_share")
            lines.append("| " + " | ".join([
                label, f"{machine(data['isa'])}, {data['threads']} threads",
                number(median(on, figure)), number(median(peer, figure)) if peer else "-",
                ratio, "-" if share is None or figure != "decode_tokens_per_s" else f"{share:.1%}",
                f"{mib(median(on, 'peak_bytes'))} / {mib(median(peer, 'peak_bytes')) if peer else '-'}",
            ]) + " |")
    return "\n".join(lines)


def against_ourselves():
    lines = ["| figure | with | without | gain [95 %] | output |", "|---|---|---|---|---|"]
    data = load("prefix")
    if data:
        on, off = data["points"][0]["variants"][:2]
        gain = off["gain"]
        lines.append(f"| shared 512-token prefix, 16 streams, output tokens/s | "
                     f"{number(median(on, 'output_tokens_per_s'))} | "
                     f"{number(median(off, 'output_tokens_per_s'))} | {gain['median']:.2f}x "
                     f"[{gain['low']:.2f}, {gain['high']:.2f}] | "
                     f"{'same' if off['same_output'] else 'differs'} |")
    data = load("session")
    if data:
        on = data["points"][0]["variants"][0]
        lines.append(f"| sixth turn of a session over the first, time to first token | "
                     f"{number(median(on, 'last_turn_over_first'))}x | | | |")
    data = load("load")
    if data:
        on = data["points"][0]["variants"][0]
        lines.append(f"| load of the Q8_0 file, warm, s | {number(median(on, 'load_s'))} | | | |")
    for name, what, size in (("decode_q8_0", "Q8_0", 138), ("decode_q4_1", "Q4_1", 94)):
        data, rate = load(name), bandwidth(size)
        if data and rate:
            reached = median(data["points"][0]["variants"][0], "decode_tokens_per_s")
            limit = rate * 1e9 / (size * 2**20)
            lines.append(f"| decode, 1 stream, {what}: of the limit that reading {size} MiB sets | "
                         f"{number(reached)} | limit {number(limit)} | {reached / limit:.0%} | |")
    data, peer = load("memory"), load("memory_peer")
    if data and peer:
        mine = median(data["points"][0]["variants"][0], "peak_bytes")
        lines.append(f"| peak memory, 32 streams of 256 tokens, MiB | {mib(mine)} | llama-server "
                     f"{mib(peer['peak_bytes'])} | {mine / peer['peak_bytes']:.2f} of it | |")
    return "\n".join(lines)


def curve(name, figure):
    data = load(name)
    if data is None:
        return "Not measured yet."
    lines = ["| " + figure + " | with | without | gain | output |", "|---|---|---|---|---|"]
    for point in data["points"]:
        on, off = point["variants"][:2]
        lines.append(f"| {point['x']} | {number(median(on, data['figure']))} | "
                     f"{number(median(off, data['figure']))} | {off['gain']['median']:.2f}x | "
                     f"{'same' if off['same_output'] else 'differs'} |")
    return "\n".join(lines)


tables = {"peer": against_peer(), "own": against_ourselves(),
          "kv": curve("curve_kv", "context"), "batch": curve("curve_batch", "streams")}
text = open(document).read()
for name, table in tables.items():
    pattern = rf"(<!-- {name} -->\n).*?(<!-- end -->)"
    text, count = re.subn(pattern, lambda m: m.group(1) + table + "\n" + m.group(2), text,
                          flags=re.S)
    if count != 1:
        sys.exit(f"{document} has {count} places for the table '{name}'")
open(document, "w").write(text)
