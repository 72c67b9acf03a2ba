"""Runs transformers and PEFT beside the engine's binary and compares what they give.

usage: live_parity.py ENGINE MODEL.gguf SOURCE_FOLDER

Exits with 1 and says where when a comparison fails. Checked: greedy tokens of 36 prompts with and
without the KV cache, the loss curve of LoRA over 20 steps, an adapter written by PEFT and run by
the engine, and one written by the engine and run by PEFT.
"""
import json
import os
import subprocess
import sys
import tempfile

import torch
from peft import LoraConfig, PeftModel, get_peft_model

from peer import load_model, load_tokenizer

HERE = os.path.dirname(os.path.abspath(__file__))


def run(command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr}")
    return done.stdout


def engine_tokens(engine, source, pipeline, prompt, count, *sets):
    # The file's exact values, as transformers decodes them.
    base = "model" if pipeline == "generate-plain.pbtxt" else "base"
    arguments = [engine, "run", f"{source}/pipelines/{pipeline}", prompt, "--set", "chat=false",
                 "--set", f"{base}.load.weights=DECODED",
                 "--set", f"max_tokens={count}", "--set", "format=JSONL",
                 "--set", "loop.ignore_eos=true", "--set", "encode.special=true"]
    for s in sets:
        arguments += ["--set", s]
    return json.loads(run(arguments).splitlines()[-1])


def greedy(model, ids, count):
    """Tokens and margins."""
    tokens, margins, past, step = [], [], None, torch.tensor([ids])
    with torch.no_grad():
        for _ in range(count):
            out = model(step, past_key_values=past, use_cache=True)
            past = out.past_key_values
            top, where = out.logits[0, -1].float().topk(2)
            tokens.append(int(where[0]))
            margins.append(float(top[0] - top[1]))
            step = torch.tensor([[tokens[-1]]])
    return tokens, margins


def compare(name, ours, theirs, margins, least=1e-3):
    for i, (a, b, margin) in enumerate(zip(ours, theirs, margins)):
        if margin <= least:
            return i
        if a != b:
            sys.exit(f"{name}: token {i} is {a}, transformers has {b} (margin {margin})")
    return len(theirs)


def main():
    engine, model_path, source = sys.argv[1:4]
    folder = tempfile.mkdtemp()

    reference = f"{folder}/reference.json"
    run([sys.executable, f"{HERE}/make_reference.py", model_path, reference])
    compared = 0
    for item in json.load(open(reference))["items"]:
        for pipeline, count in (("generate.pbtxt", 64), ("generate-plain.pbtxt", 8)):
            got = engine_tokens(engine, source, pipeline, item["prompt"], count,
                                f"model={model_path}")
            if got["prompt_ids"] != item["ids"]:
                sys.exit(f"{item['prompt']!r}: prompt ids differ")
            compared += compare(item["prompt"], got["ids"], item["greedy"], item["margins"])
    print(f"greedy tokens agree: {compared} compared")

    curve = f"{folder}/curve.json"
    run([sys.executable, f"{HERE}/make_lora_curve.py", model_path, f"{source}/LICENSE", curve])
    losses = json.load(open(curve))["losses"]
    run([engine, "run", f"{source}/pipelines/finetune-qlora.pbtxt", f"{source}/LICENSE",
         "--set", f"model={model_path}", "--set", "sequence=64", "--set", "small.bypass=true",
         *(word for setting in ("steps=20", "batch=1", "lr=1e-4", "shuffle=false", "pack=NONE",
                                "train.trainer.schedule=CONSTANT", "train.trainer.warmup_ratio=0",
                                "train.trainer.max_grad_norm=0") for word in ("--set", setting)),
         "--set", f"metrics={folder}/metrics.jsonl", "--set", f"out={folder}/ours"])
    ours = [json.loads(line)["loss"] for line in open(f"{folder}/metrics.jsonl")]
    worst = max(abs(a - b) for a, b in zip(ours, losses))
    if len(ours) != len(losses) or worst > 1e-5:
        sys.exit(f"loss curves differ by {worst}")
    print(f"20 steps of LoRA agree: worst difference of the loss {worst:.1e}")

    tokenizer = load_tokenizer(model_path)
    prompt = "The licence of this work says that"
    ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    dense = ("small.bypass=true", f"base={model_path}")

    torch.manual_seed(1)
    peft = get_peft_model(load_model(model_path), LoraConfig(
        r=4, lora_alpha=16, target_modules=["q_proj", "v_proj", "down_proj"],
        task_type="CAUSAL_LM"))
    with torch.no_grad():
        for name, p in peft.named_parameters():
            if "lora_B" in name:
                p.normal_(0, 0.02)
    peft.eval()
    peft.save_pretrained(f"{folder}/theirs")
    got = engine_tokens(engine, source, "generate-lora.pbtxt", prompt, 32,
                        f"adapter={folder}/theirs", *dense)
    tokens, margins = greedy(peft, ids, 32)
    n = compare("PEFT's adapter", got["ids"], tokens, margins)
    print(f"an adapter by PEFT runs in the engine: {n} tokens agree")

    loaded = PeftModel.from_pretrained(load_model(model_path), f"{folder}/ours").eval()
    got = engine_tokens(engine, source, "generate-lora.pbtxt", prompt, 32,
                        f"adapter={folder}/ours", *dense)
    tokens, margins = greedy(loaded, ids, 32)
    n = compare("the engine's adapter", got["ids"], tokens, margins)
    print(f"an adapter by the engine runs in PEFT: {n} tokens agree")


if __name__ == "__main__":
    main()
