"""Runs transformers and PEFT beside the engine's binary and compares what they give.

usage: live_parity.py ENGINE MODEL.gguf SOURCE_FOLDER

Exits with 1 and says where when a comparison fails. Checked: greedy tokens of 36 prompts with and
without the KV cache; the loss curves of LoRA, of DoRA and of PiSSA; adapters written by PEFT
(plain, with DoRA, with rsLoRA and a rank pattern) served by the engine, and merged by it and run
by transformers; and adapters written by the engine and run by PEFT.
"""
import json
import os
import subprocess
import sys
import tempfile

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

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
    return min(len(ours), len(theirs))


def compare_curve(name, engine, source, model_path, at, steps, bound, theirs, ours):
    """Trains in both, PEFT in float64, where the order of sums does not show; the engine in F32 leaves
    its adapter in `at`-ours."""
    run([sys.executable, f"{HERE}/make_lora_curve.py", model_path, f"{source}/LICENSE",
         f"{at}.json", "--steps", str(steps), "--dtype", "float64", *theirs])
    losses = json.load(open(f"{at}.json"))["losses"]
    run([engine, "run", f"{source}/pipelines/finetune-qlora.pbtxt", f"{source}/LICENSE",
         "--set", f"model={model_path}", "--set", "sequence=64", "--set", "small.bypass=true",
         *(word for setting in (f"steps={steps}", "batch=1", "lr=1e-4", "shuffle=false",
                                "pack=NONE", "train.trainer.schedule=CONSTANT",
                                "train.trainer.warmup_ratio=0", "train.trainer.max_grad_norm=0",
                                f"metrics={at}.jsonl", f"out={at}-ours", *ours)
           for word in ("--set", setting))])
    mine = [json.loads(line)["loss"] for line in open(f"{at}.jsonl")]
    worst = max(abs(a - b) for a, b in zip(mine, losses))
    if len(mine) != len(losses) or worst > bound:
        sys.exit(f"loss curves of {name} differ by {worst}")
    print(f"{steps} steps of {name} agree: worst difference of the loss {worst:.1e}", flush=True)


def random_adapter(model_path, settings):
    torch.manual_seed(1)
    peft = get_peft_model(load_model(model_path), LoraConfig(
        r=4, lora_alpha=16, target_modules=["q_proj", "v_proj", "down_proj"],
        task_type="CAUSAL_LM", **settings))
    with torch.no_grad():
        for name, p in peft.named_parameters():
            if "lora_B" in name:
                p.normal_(0, 0.02)
            elif "lora_magnitude_vector" in name:
                p.mul_(1 + 0.1 * torch.rand_like(p))
    return peft.eval()


def logits_of(model, ids):
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids])).logits[0].double()


def from_merged(engine, model_path, adapter, want, ids):
    """How far the model that the engine merges is from `want`, both run by transformers in float64:
    in float32 the order of sums alone moves logits by 1e-4."""
    run([engine, "convert", model_path, f"{adapter}-merged", "--adapter", adapter, "--type", "F64"])
    merged = AutoModelForCausalLM.from_pretrained(f"{adapter}-merged", dtype=torch.float64)
    return float((logits_of(merged, ids) - want).abs().max())


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

    compare_curve("LoRA", engine, source, model_path, f"{folder}/lora", 20, 1e-5, [], [])
    compare_curve("DoRA", engine, source, model_path, f"{folder}/dora", 8, 1e-5, ["--dora"],
                  ["tuned.lora.dora=true"])
    compare_curve("PiSSA", engine, source, model_path, f"{folder}/pissa", 8, 1e-4,
                  ["--init", "pissa", "--targets", "q_proj"],
                  ["tuned.lora.init=PISSA", "tuned.lora.targets=q_proj"])

    tokenizer = load_tokenizer(model_path)
    prompt = "The licence of this work says that"
    ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]

    def served(adapter):
        return engine_tokens(engine, source, "generate-lora.pbtxt", prompt, 32,
                             f"adapter={adapter}", "small.bypass=true", f"base={model_path}")["ids"]

    plain = logits_of(load_model(model_path), ids)
    for name, settings in (("plain", {}), ("DoRA", dict(use_dora=True)),
                           ("rsLoRA", dict(use_rslora=True, rank_pattern={"q_proj": 9}))):
        theirs = f"{folder}/theirs-{name}"
        peft = random_adapter(model_path, settings)
        peft.save_pretrained(theirs)
        tokens, margins = greedy(peft, ids, 32)
        n = compare(f"PEFT's adapter ({name})", served(theirs), tokens, margins)
        want = logits_of(peft.double(), ids)
        apart = from_merged(engine, model_path, theirs, want, ids)
        if apart > 1e-4 or float((plain - want).abs().max()) < 1e-2:
            sys.exit(f"logits of PEFT's adapter ({name}), merged by the engine, differ by {apart}")
        print(f"an adapter by PEFT ({name}) runs in the engine: {n} tokens agree; merged, its "
              f"logits differ by {apart:.1e}")

    for name in ("lora", "dora", "pissa"):
        ours = f"{folder}/{name}-ours"
        loaded = PeftModel.from_pretrained(load_model(model_path), ours).eval()
        tokens, margins = greedy(loaded, ids, 32)
        n = compare(f"the engine's adapter ({name})", served(ours), tokens, margins)
        apart = from_merged(engine, model_path, ours, logits_of(loaded.double(), ids), ids)
        if apart > 1e-4:
            sys.exit(f"logits of the engine's adapter ({name}), merged, differ by {apart}")
        print(f"an adapter by the engine ({name}) runs in PEFT: {n} tokens agree; logits differ "
              f"by {apart:.1e}")


if __name__ == "__main__":
    main()
