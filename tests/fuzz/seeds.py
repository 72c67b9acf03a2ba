"""seeds.py FOLDER: small good files for the fuzzers to begin with, one folder a target."""
import json
import pathlib
import re
import struct
import sys

root = pathlib.Path(__file__).resolve().parents[2]
out = pathlib.Path(sys.argv[1])


def put(target, name, data):
    folder = out / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)


for file in [*root.glob("pipelines/*.pbtxt"), *root.glob("engine/graph/testdata/**/*.pbtxt")]:
    put("pipeline", file.name, file.read_bytes())

# Texts of the language's own tests, and what they give on the command line.
sets = re.compile(r'sets = \{"([^}]*)"\}|"([a-z_.]+=[^"\\\n]*)"')
for file in root.glob("engine/graph/*_test.cc"):
    source = file.read_text()
    lines = [a or b for a, b in sets.findall(source)][:200]
    for i, text in enumerate(re.findall(r'R"\((.*?)\)"', source, re.S)):
        tail = "\0" + "\n".join(lines[i % len(lines):][:2]) if lines and i % 2 else ""
        put("pipeline", f"{file.stem}_{i}", (text + tail).encode())
for i, text in enumerate([
        'import { path: "good/imports.pbtxt" }', 'import { path: "fuzz.pbtxt" }',
        'import { path: "good" } import { path: "none" } import { path: "../testdata/fuzz.pbtxt" }',
        'node { name: "t" types { d: 0.5 f: -1e3 i: -0x5 l: 017 u: 3 ul: 2 b: t w: SOME s: "1GiB" '
        'path: "Makefile" ds: [0, 1] fs: 1 is: 2 ls: 3 us: 4 uls: 5 bs: [true, 0] ws: NONE ws: -1 '
        'ss: "a" inner { inners { } } one: "x" } bypass: true }\0t.d=0.25\nt.ds=1,2\nt.w=SOME',
        'node { name: "t" types { d: 2 f: inf i: -6 l: 10 u: 10 ul: 1 b: yes w: OTHER s: "x" w: 7 '
        'path: "none" ds: -1 fs: -1 is: -1 ls: -1 us: 0 uls: 0 inner: 3 one: "x" other: 1 } }',
        *[f'node {{ name: "t" types {{ }} }}\0t.{name}={value}\nt.{name}s={value},{value}'
          for name, value in {"d": "1e-1", "f": "x", "i": "-3", "l": "5", "u": "7", "ul": "-1",
                              "b": "true", "w": "SOME", "s": "1kB", "inner": "3", "path": "/",
                              "inner.i": "4", "none": "1", "bypass": "true"}.items()],
        *[f'param {{ name: "p" type: {kind} default: "{value}" choices: ["{value}", "2"] '
          f'sets: "t.{to}" positional: true }} node {{ name: "t" types {{ }} }}\0p={value}'
          for kind, value, to in [("INTEGER", "3", "i"), ("NUMBER", "0.5", "d"),
                                  ("BOOL", "true", "b"), ("TEXT", "a", "ss"), ("TEXT", "2", "w"),
                                  ("INTEGER", "x", "u"), ("BOOL", "3", "b")]],
        'param { name: "p" default: "2" sets: "f.depth" type: INTEGER }\0p=3\nq=1\nx',
        'node { name: "n" numbers { } out: "x\\n\\t\\x41\\101\\u00e9\\U0001F600\\"" }']):
    put("pipeline", f"more_{i}", text.encode())

# Requests: their bytes, their bodies, and answers.
head = "POST /v1/completions HTTP/1.1\r\nHost: h\r\n"
for i, text in enumerate([
        head + "Content-Length: 2\r\n\r\n{}GET /health HTTP/1.0\r\n\r\n",
        head + "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        head + "Expect: 100-continue\r\nContent-Length: 2\r\n\r\n{}",
        "GET /a/%2e%2E/b?x=%41 HTTP/1.1\r\n\r\n", "GET http://h/../x HTTP/1.1\r\n\r\n"]):
    put("http", f"bytes_{i}", b"\0" + text.encode())
bodies = re.findall(r'R"\((.*?)\)"', (root / "plugins/http_api/read_test.cc").read_text(), re.S)
for i, text in enumerate(bodies):
    whole = text if text.lstrip().startswith("{") else (
        '{"messages": [{"role": "user", "content": "x"}], "prompt": [1, 2], ' + text + "}")
    put("http", f"body_{i}", b"\1" + whole.encode())
put("http", "answer", b"\2a<tool_call>{\"name\": \"f\", \"arguments\": {}}</tool_call> stop")

for case in json.loads((root / "tests/data/chat_templates.json").read_text()):
    put("chat_template", case["name"].replace("/", "_"), case["template"].encode())

vocab = ["<s>", "</s>", "H", "e", "l", "o", "He", "ll", "\u0120", "w"]
tokenizer = {
    "version": "1.0",
    "added_tokens": [{"id": 0, "content": "<s>", "special": True, "single_word": False,
                      "lstrip": False, "rstrip": False, "normalized": False}],
    "normalizer": {"type": "NFC"},
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
                      "use_regex": True},
    "post_processor": None,
    "decoder": {"type": "ByteLevel"},
    "model": {"type": "BPE", "vocab": {t: i for i, t in enumerate(vocab)},
              "merges": ["H e", "l l"], "ignore_merges": False},
}
put("tokenizer", "byte_level", json.dumps(tokenizer).encode() + b"\0Hello w\xc3\xb6rld")

# Other steps of a tokenizer, one change each.
for name, change in {
    "digits": {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [
        {"type": "Digits", "individual_digits": True},
        {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}]}},
    "split": {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [
        {"type": "Split", "pattern": {"Regex": "\\s+|[^\\s]+"}, "behavior": "Isolated",
         "invert": False},
        {"type": "Split", "pattern": {"String": "lo"}, "behavior": "Removed", "invert": True},
        {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}]}},
    "template": {"normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}]},
                 "post_processor": {"type": "Sequence", "processors": [
                     {"type": "ByteLevel"},
                     {"type": "TemplateProcessing",
                      "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}},
                                 {"Sequence": {"id": "A", "type_id": 0}},
                                 {"SpecialToken": {"id": "<s>", "type_id": 0}}],
                      "special_tokens": {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]}}}]}},
    "merges": {"model": tokenizer["model"] | {
        "merges": [["H", "e"], ["l", "l"]], "ignore_merges": True, "dropout": None,
        "byte_fallback": False, "continuing_subword_prefix": "", "end_of_word_suffix": ""},
        "added_tokens": [
            {"id": 0, "content": "<s>", "special": True, "lstrip": True, "rstrip": True},
            {"id": 1, "content": "</s>", "special": False, "single_word": True}]},
}.items():
    put("tokenizer", name, json.dumps(tokenizer | change).encode()
        + b"\0<s> Hello </s> w\xc3\xb6rld He" + b"llo" * 20)

tensors = {"a": ("F32", [2, 3], 24), "b": ("BF16", [4], 8), "c": ("I64", [1], 8)}
header, end = {"__metadata__": {"format": "pt"}}, 0
for name, (dtype, shape, size) in tensors.items():
    header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + size]}
    end += size
text = json.dumps(header).encode()
put("safetensors", "three", struct.pack("<Q", len(text)) + text + bytes(end))
# One tensor of each type, and one without elements.
header, end = {}, 0
for name, size in {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "U64": 8, "I32": 4, "U32": 4,
                   "I16": 2, "U16": 2, "I8": 1, "U8": 1, "BOOL": 1}.items():
    header[name] = {"dtype": name, "shape": [1], "data_offsets": [end, end + size]}
    end += size
header["none"] = {"dtype": "F32", "shape": [0, 2], "data_offsets": [end, end]}
text = json.dumps(header).encode()
put("safetensors", "types", struct.pack("<Q", len(text)) + text + bytes(end))


def gguf_string(s):
    return struct.pack("<Q", len(s.encode())) + s.encode()


def gguf_value(v):
    if isinstance(v, bool):
        return 7, struct.pack("<?", v)
    if isinstance(v, int):
        return 4, struct.pack("<I", v)
    if isinstance(v, float):
        return 6, struct.pack("<f", v)
    if isinstance(v, str):
        return 8, gguf_string(v)
    kind = gguf_value(v[0])[0]
    return 9, struct.pack("<IQ", kind, len(v)) + b"".join(gguf_value(x)[1] for x in v)  # an array


def gguf(values, shapes):
    data = b"GGUF" + struct.pack("<IQQ", 3, len(shapes), len(values))
    for key, value in values.items():
        kind, raw = gguf_value(value)
        data += gguf_string(key) + struct.pack("<I", kind) + raw
    at = 0
    for name, shape in shapes.items():
        data += gguf_string(name) + struct.pack("<I", len(shape))
        data += struct.pack(f"<{len(shape)}Q", *reversed(shape)) + struct.pack("<IQ", 0, at)
        size = 4
        for n in shape:
            size *= n
        at += (size + 31) // 32 * 32
    return data + bytes(-len(data) % 32) + bytes(at)


block = {"attn_norm": [8], "ffn_norm": [8], "attn_q": [8, 8], "attn_k": [4, 8], "attn_v": [4, 8],
         "attn_output": [8, 8], "ffn_gate": [16, 8], "ffn_up": [16, 8], "ffn_down": [8, 16]}
shapes = {"token_embd.weight": [len(vocab), 8], "output_norm.weight": [8]}
shapes |= {f"blk.0.{name}.weight": shape for name, shape in block.items()}
put("gguf", "llama", gguf({
    "general.architecture": "llama", "general.name": "tiny", "llama.block_count": 1,
    "llama.context_length": 32, "llama.embedding_length": 8, "llama.feed_forward_length": 16,
    "llama.attention.head_count": 2, "llama.attention.head_count_kv": 1,
    "llama.rope.dimension_count": 4, "llama.rope.freq_base": 10000.0,
    "llama.attention.layer_norm_rms_epsilon": 1e-5, "llama.vocab_size": len(vocab),
    "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "smollm",
    "tokenizer.ggml.tokens": vocab, "tokenizer.ggml.token_type": [3, 3] + [1] * 8,
    "tokenizer.ggml.merges": ["H e", "l l"], "tokenizer.ggml.bos_token_id": 0,
    "tokenizer.ggml.eos_token_id": 1}, shapes))
# A value of each type of metadata, and a tensor of each type that is read.
kinds = b"".join(gguf_string(f"k{kind}") + struct.pack("<I", kind) + raw for kind, raw in {
    0: b"\1", 1: b"\xff", 2: b"\1\0", 3: b"\xff\xff", 4: bytes(4), 5: bytes(4), 6: bytes(4),
    7: b"\1", 8: gguf_string("s"), 9: struct.pack("<IQ2f", 6, 2, 0, 1), 10: bytes(8),
    11: b"\xff" * 8, 12: bytes(8)}.items())
data, at = b"GGUF" + struct.pack("<IQQ", 2, 7, 14) + kinds, 0
data += gguf_string("general.alignment") + struct.pack("<II", 4, 64)
for kind, size in {0: 128, 1: 64, 2: 18, 3: 20, 8: 34, 28: 256, 30: 64}.items():
    data += gguf_string(f"t{kind}") + struct.pack("<IQIQ", 1, 32, kind, at)
    at += (size + 63) // 64 * 64
put("gguf", "types", data + bytes(-len(data) % 64) + bytes(at))


# A plugin as a linker writes it, cut down to what a reader looks at: one segment at address 0, so
# that addresses are offsets.
def elf(gnu_hash, tags=(), machine=62, kind=3):
    names, strings = {}, b"\0"
    for name in ["engine_plugin_v1", "other", "_init", "libc.so.6", "$ORIGIN/lib:/opt/lib"]:
        names[name] = len(strings)
        strings += name.encode() + b"\0"
    manifest = struct.pack("<IIHHHH", 208, 0x6c506e45, 1, 0, 0, 0) + bytes(192)
    parts, at = [], 64 + 2 * 56
    def place(data):
        nonlocal at
        data += bytes(-len(data) % 8)
        parts.append(data)
        at += len(data)
        return at - len(data)
    manifest_at = place(manifest)
    strings_at = place(strings)
    symbols = bytes(24)
    for name, where, info in [("libc.so.6", 0, 0x12), ("engine_plugin_v1", 1, 0x11),
                              ("other", 1, 0x12), ("_init", 1, 0x12), ("other", 0xfff1, 0x11)]:
        symbols += struct.pack("<IBBHQQ", names[name], info, 0, where, manifest_at, 208)
    symbols_at = place(symbols)
    count = len(symbols) // 24
    if gnu_hash:
        table = struct.pack("<4IQ2I", 2, 1, 1, 6, 0, 1, 3)
        hash_at = place(table + struct.pack(f"<{count - 1}I", *[2 * i + (i in (1, 4))
                                                                 for i in range(count - 1)]))
    else:
        hash_at = place(struct.pack("<2I", 1, count) + bytes(4 * (1 + count)))
    dynamic = [(1, names["libc.so.6"]), (29, names["$ORIGIN/lib:/opt/lib"]), (5, strings_at),
               (10, len(strings)), (6, symbols_at), (11, 24),
               (0x6ffffef5 if gnu_hash else 4, hash_at), *tags, (0, 0)]
    dynamic_at = place(b"".join(struct.pack("<QQ", *entry) for entry in dynamic))
    head = b"\x7fELF\2\1\1" + bytes(9) + struct.pack("<HHIQQQIHHHHHH", kind, machine, 1, 0, 64, at,
                                                     0, 64, 56, 2, 64, 0, 0)
    segments = struct.pack("<IIQQQQQQ", 1, 6, 0, 0, 0, at, at, 4096)
    segments += struct.pack("<IIQQQQQQ", 2, 6, dynamic_at, dynamic_at, dynamic_at,
                            16 * len(dynamic), 16 * len(dynamic), 8)
    return head + segments + b"".join(parts)


put("elf", "gnu_hash", elf(True))
put("elf", "hash", elf(False))
put("elf", "rpath", elf(True, [(15, 1), (21, 0)]))
for machine in (3, 40, 183, 243, 21, 22, 8):
    put("elf", f"machine_{machine}", elf(True, machine=machine)[:64])
for kind in (1, 2, 4):
    put("elf", f"type_{kind}", elf(True, kind=kind)[:64])
put("elf", "lfs", b"version https://git-lfs.github.com/spec/v1\n")

refusal = {"id": "com.acme.x", "version": "1.0.0", "because": "its ABI is newer",
           "built_for": "ABI 2.0", "this_host": "ABI 1.0", "differs": "major", "fix": "update",
           "kinds": ["a", "b"], "output": ["what(): no"]}
for name, wrong in {"kinds": "a", "output": [1], "id": 3, "because": "", "fix": None}.items():
    put("scan_cache", f"wrong_{name}", json.dumps(refusal | {name: wrong}).encode())
    put("scan_cache", f"file_{name}", json.dumps({"format": 1, "files": {
        "a": {"state": "s", "refused": refusal | {name: wrong}}, "b": 1, "c": {"state": 1},
        "d": {"state": "s", "put_at": "now"}}}).encode())
for i, text in enumerate(['{"format":2}', '{"format":1}', '{"format":1,"files":[]}', "[]"]):
    put("scan_cache", f"form_{i}", text.encode())
put("scan_cache", "refusal", json.dumps(refusal).encode())
put("scan_cache", "file", json.dumps({"format": 1, "files": {
    "engine 1\n/proc/self/exe": {"state": "1@2.3", "put_at": 5},
    "engine 1\n/none": {"state": "1@2.3 $ORIGIN -", "put_at": 6, "refused": refusal}}}).encode())


def report(*events):
    return b"".join(json.dumps(event).encode() + b"\n" for event in events)


ready, done = {"ready": True}, {"file": 0, "done": True}
put("scan_report", "good", report(ready, {"file": 0, "step": 0}, {"file": 0, "step": 3},
                                  {"file": 0, "harmless": True}, done,
                                  {"file": 1, "harmless": True}, {"file": 1, "done": True}))
put("scan_report", "refused", report(ready, {"file": 0, "refused": refusal},
                                     {"file": 0, "kinds": ["c"]}, done))
put("scan_report", "crash", b"terminate called\n" + report(ready, {"file": 0, "step": 5}))
put("scan_report", "signal", b"crash\n" + report(ready, {"file": 0, "step": 2}))
put("scan_report", "later", b"crash\n" + report(ready, {"file": 0, "harmless": True}, done))
put("scan_report", "limit", b"500\n" + report(ready, {"file": 0, "step": 6}))
put("scan_report", "silent", b"")
put("scan_report", "never", b"no report\n")

# Forms of guided decoding: those of its tests, of each kind.
guided = root / "plugins/guided"
for kind, file in [(0, "schema_test"), (0, "schema_hostile_test"), (3, "tools_test")]:
    for i, text in enumerate(re.findall(r'R"-?\((.*?)\)-?"', (guided / f"{file}.cc").read_text(), re.S)):
        whole = '{"tools":[{"name":"get_a"},{"name":"get"}]' + text + "}" if text[0] == "," else text
        put("guided", f"{file}_{i}", bytes([kind]) + whole.encode())
for i, text in enumerate(re.findall(r'\{"((?:[^"\\\n]|\\.)+)",', (guided / "pattern_test.cc").read_text())):
    put("guided", f"pattern_{i}", b"\2" + text.replace('\\"', '"').replace("\\\\", "\\").encode())
put("guided", "any_object", b"\1")
# Ways that cannot end: what must not be begun.
put("guided", "dead_list", b"\0" + json.dumps({"properties": {
    "x": {"prefixItems": [{"const": 1}], "items": False, "minItems": 2}, "y": {"const": 1}}}).encode())
put("guided", "dead_tree", b"\0" + json.dumps({"properties": {"x": {"$ref": "#/$defs/a"}}, "$defs": {
    "a": {"properties": {"x": {"$ref": "#/$defs/a"}}, "required": ["x"]}}}).encode())
