"""seeds.py FOLDER: small good files for the fuzzers to begin with, one folder a target."""
import json
import pathlib
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

tensors = {"a": ("F32", [2, 3], 24), "b": ("BF16", [4], 8), "c": ("I64", [1], 8)}
header, end = {"__metadata__": {"format": "pt"}}, 0
for name, (dtype, shape, size) in tensors.items():
    header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + size]}
    end += size
text = json.dumps(header).encode()
put("safetensors", "three", struct.pack("<Q", len(text)) + text + bytes(end))


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
