"""Small random models of the Llama family, made by transformers, run by the engine.

usage: families.py ENGINE MODEL.gguf SOURCE_FOLDER

MODEL.gguf lends its tokenizer. Exits with 1 and says where when a comparison fails. Checked for
each model: the mean loss over a text in float64, from fused and from plain sites, against
transformers with its roundings to float32 taken out, to 1e-10 of it; in float32 the loss, greedy
tokens with and without the KV cache, and the margin between the two greatest logits at each.
"""
import json
import os
import sys
import tempfile

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from live_parity import compare, engine_tokens, greedy, run
from peer import all_float64, load_tokenizer

TEXT = "docs/plugins.md"
SEQUENCE, ROWS = 192, 4
PROMPTS = ["The capital of France is", "def fibonacci(n):\n    ", "日本の首都は",
           "Long ago " * 40 + "there lived"]
# Rows of the head are many here, so that random weights need some size for margins that count.
COMMON = dict(vocab_size=49152, max_position_embeddings=512, initializer_range=0.2,
              bos_token_id=1, eos_token_id=2, pad_token_id=2)
FAMILIES = {
    "tied, grouped queries": dict(
        hidden_size=96, intermediate_size=160, num_hidden_layers=3, num_attention_heads=6,
        num_key_value_heads=2, tie_word_embeddings=True, rms_norm_eps=1e-5,
        rope_parameters=dict(rope_type="default", rope_theta=100000.0)),
    "untied, as many keys as queries": dict(
        hidden_size=64, intermediate_size=176, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=4, tie_word_embeddings=False, rms_norm_eps=1e-6,
        rope_parameters=dict(rope_type="default", rope_theta=10000.0)),
    "grouped queries, llama3 scaling, wide heads": dict(
        hidden_size=96, intermediate_size=144, num_hidden_layers=2, num_attention_heads=6,
        num_key_value_heads=3, head_dim=32, tie_word_embeddings=False, rms_norm_eps=1e-5,
        # Wave lengths on both sides of the two limits, and positions beyond the original context.
        rope_parameters=dict(rope_type="llama3", rope_theta=500000.0, factor=8.0,
                             low_freq_factor=1.0, high_freq_factor=4.0,
                             original_max_position_embeddings=128)),
}


def make(settings, seed, tokenizer, folder):
    torch.manual_seed(seed)
    model = LlamaForCausalLM(LlamaConfig(**COMMON, **settings))
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "norm" in name:  # they begin as ones, which hides what they do
                p.uniform_(0.5, 1.5)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def mean_loss(model, rows):
    """Over all tokens but the first of each row."""
    with torch.no_grad():
        logits = model(input_ids=rows).logits[:, :-1]
        return float(torch.nn.functional.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten()))


def engine_loss(engine, source, folder, text, *sets):
    out = f"{folder}.json"
    run([engine, "run", f"{source}/pipelines/evaluate.pbtxt", text,
         *(word for setting in (f"model={folder}", "plain=true", f"sequence={SEQUENCE}", "batch=2",
                                f"data.dataset.limit={ROWS // 2}", f"out={out}", *sets)
           for word in ("--set", setting))])
    found = json.load(open(out))
    if found["tokens"] != ROWS * (SEQUENCE - 1):
        sys.exit(f"the engine counts {found['tokens']} labels, not {ROWS * (SEQUENCE - 1)}")
    return found["loss"]


def near(name, ours, theirs, bound):
    apart = abs(ours / theirs - 1)
    if not apart <= bound:
        sys.exit(f"{name}: {ours!r}, transformers has {theirs!r}: {apart:.1e} of it apart")
    return apart


def main():
    engine, model_path, source = sys.argv[1:4]
    tokenizer = load_tokenizer(model_path)
    text = os.path.join(source, TEXT)
    ids = tokenizer(open(text).read(), add_special_tokens=False)["input_ids"]
    rows = torch.tensor(ids[:ROWS * SEQUENCE]).reshape(ROWS, SEQUENCE)
    with tempfile.TemporaryDirectory() as work:
        for seed, (name, settings) in enumerate(FAMILIES.items()):
            folder = os.path.join(work, f"family-{seed}")
            make(settings, seed, tokenizer, folder)
            with all_float64():
                wide = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64)
                want = mean_loss(wide, rows)
            apart = [near(f"{name}, float64, {sites} sites",
                          engine_loss(engine, source, folder, text, "base.load.dtype=F64",
                                      f"base.load.sites={sites}"), want, 1e-10)
                     for sites in ("FUSED", "PLAIN")]
            model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
            narrow = near(f"{name}, float32", engine_loss(engine, source, folder, text),
                          mean_loss(model, rows), 1e-5)
            compared, worst = 0, 0.0
            for prompt in PROMPTS:
                prompt_ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
                tokens, margins = greedy(model, prompt_ids, 32)
                for pipeline, count in (("generate.pbtxt", 32), ("generate-plain.pbtxt", 8)):
                    got = engine_tokens(engine, source, pipeline, prompt, count, f"model={folder}")
                    if got["prompt_ids"] != prompt_ids or len(got["ids"]) != count:
                        sys.exit(f"{name}, {prompt!r}: other prompt ids, or not {count} tokens")
                    n = compare(f"{name}, {prompt!r}, {pipeline}", got["ids"],
                                tokens[:count], margins)
                    compared += n
                    for i in range(n):
                        worst = max(worst, abs(got["margins"][i] - margins[i]))
            if compared < 100 or worst > 1e-3:
                sys.exit(f"{name}: {compared} tokens compared, margins of logits differ by {worst}")
            print(f"{name}: loss in float64 within {max(apart):.1e} of transformers' {want:.6f}, in "
                  f"float32 {narrow:.1e}; {compared} greedy tokens agree, margins to {worst:.1e}",
                  flush=True)


if __name__ == "__main__":
    main()
