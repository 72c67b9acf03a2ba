"""Reference outputs of transformers in fp32 for stored and live parity tests.

usage: make_reference.py MODEL.gguf OUT.json [--tokens N] [--prompts N]

For each prompt: its ids, the five greatest logits at its last position, the greedy continuation
without a stop, and at each token the margin between the two greatest logits.
"""
import argparse
import json
import os

import torch

from peer import load_model, load_tokenizer

PROMPTS = [
    "The capital of France is",
    "Once upon a time, in a small village by the sea,",
    "def fibonacci(n):\n    ",
    "Water boils at a temperature of",
    "The quick brown fox jumps over the lazy dog.",
    "List three colors:",
    "To be, or not to be, that is the question: Whether 'tis nobler in the mind to suffer",
    "<|im_start|>user\nWhat is gravity?<|im_end|>\n<|im_start|>assistant\n",
    "<|im_start|>user\nWrite a haiku about rain.<|im_end|>\n<|im_start|>assistant\n",
    "Il était une fois",
    "Die Hauptstadt von Deutschland ist",
    "日本の首都は",
    "Emoji test: 😀🎉 and then",
    "   leading spaces and\ttabs\n\nnewlines",
    '{"name": "Alice", "age": "thirty", "city":',
    "The derivative of a function is",
    "HTTP headers such as Content-Type:",
    "A",
    "SELECT name FROM users WHERE",
    "#include <vector>\n\nint main() {",
    "In the beginning God created the heaven and the earth.",
    "Photosynthesis is the process by which",
    "My favourite recipe for bread begins with",
    "The three laws of motion are",
    "She opened the door and saw",
    "A list of prime numbers:",
    "El perro de San Roque no tiene rabo porque",
    "The mitochondria is the powerhouse of",
    "import torch\nimport torch.nn as nn\n\nclass",
    "Dear Sir or Madam,\n\nI am writing to",
    "Q: What is the largest planet?\nA:",
    "The stock market fell today because",
    "Roses are red, violets are blue,",
    "Question: Why is the sky blue? Answer:",
    "Long ago " * 40 + "there lived",
    "In computer science, a hash table is",
]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("out")
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--prompts", type=int, default=len(PROMPTS))
    args = parser.parse_args()
    tokenizer = load_tokenizer(args.model)
    model = load_model(args.model, attn_implementation="eager").eval()
    items = []
    with torch.no_grad():
        for prompt in PROMPTS[:args.prompts]:
            ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
            logits = model(torch.tensor([ids])).logits[0, -1].float()
            values, places = logits.topk(5)
            greedy, margins, past, step = [], [], None, torch.tensor([ids])
            for _ in range(args.tokens):
                out = model(step, past_key_values=past, use_cache=True)
                past = out.past_key_values
                top, where = out.logits[0, -1].float().topk(2)
                greedy.append(int(where[0]))
                margins.append(round(float(top[0] - top[1]), 6))
                step = torch.tensor([[greedy[-1]]])
            items.append(dict(prompt=prompt, ids=ids, top_ids=places.tolist(),
                              top_logits=[round(float(v), 5) for v in values],
                              greedy=greedy, margins=margins))
            print(len(items), repr(prompt[:40]), repr(tokenizer.decode(greedy))[:60], flush=True)
    with open(args.out, "w") as f:
        json.dump(dict(model=os.path.basename(args.model), items=items), f, ensure_ascii=False,
                  separators=(",", ":"))
        f.write("\n")


if __name__ == "__main__":
    main()
