"""Writes lines of assorted text with the ids that Hugging Face's fast tokenizer gives them.

usage: make_tokenizer_lines.py MODEL.gguf OUT.jsonl

Each line of OUT is {"t": text, "i": [ids]}. The tokenizer is the one that transformers builds from
the GGUF file, with SmolLM2's own pre-tokenizer (digits one by one, then byte level), which GGUF
names only as 'smollm' and transformers' conversion leaves out. Special tokens in the text are
parsed. The texts are drawn with a fixed seed.
"""

import json
import os
import random
import sys

from peer import load_tokenizer

SAMPLES = """The quick brown fox jumps over the lazy dog.
I'm sure they'll say it's what we've had; you'd know, they're right. I'M IT'S WE'LL
Ceci n'est pas une pipe ; l'été, où êtes-vous ? Çà et là.
Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich.
Съешь же ещё этих мягких французских булок, да выпей чаю.
Ξεσκεπάζω την ψυχοφθόρα βδελυγμία.
いろはにほへと ちりぬるを。色は匂へど散りぬるを、我が世誰ぞ常ならむ。
天地玄黃,宇宙洪荒。日月盈昃，辰宿列張。
키스의 고유조건은 입술끼리 만나야 하고 특별한 기술은 필요치 않다.
نص حكيم له سر قاطع وذو شأن عظيم مكتوب على ثوب أخضر
דג סקרן שט בים מאוכזב ולפתע מצא חברה
ऋषियों को सताने वाले दुष्ट राक्षसों के राजा रावण का सर्वनाश
เป็นมนุษย์สุดประเสริฐเลิศคุณค่า กว่าบรรดาฝูงสัตว์เดรัจฉาน
Pchnąć w tę łódź jeża lub ośm skrzyń fig.
Příliš žluťoučký kůň úpěl ďábelské ódy.
ქართული ენა არის ლამაზი. Հայերեն լեզու.
ᚠᛇᚻ᛫ᛒᛦᚦ᛫ᚠᚱᚩᚠᚢᚱ 𐌲𐌿𐍄𐌹𐍃𐌺 𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𓀀𓁐
def f(x: int) -> int:\n    return x * 2  # comment\n\n\nclass A(object):\n\tpass
#include <vector>\nint main() { std::vector<int> v{1, 2, 3}; return v[0] != 1 ? -1 : 0; }
SELECT a.id, COUNT(*) FROM t AS a WHERE x >= 10.5e-3 GROUP BY 1 HAVING n > 1000000;
{"key": [1, 2.5, null, true], "url": "https://example.org/a/b?c=d&e=%20f#g"}
<html><body class="x">&nbsp;&amp;</body></html>
2024-02-29T23:59:59.999Z +1 (555) 010-9999 0x1F 1,234,567.89 3.14159 №42 ½ ² ③ Ⅷ ４２ ٤٢ ४२
😀😃😄 👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽 🇩🇪🇫🇷 ❤️ ☃ ✈︎ 🧑🏿‍🚀
e\u0301 vs é; a\u0308 vs ä; \u1112\u1161\u11ab vs 한; ﬁ vs fi; Å vs Å
zero\u200bwidth\u200djoin\u2060er\ufeffbom soft\u00adhyphen \u202eRTL\u202c
a\u00a0b\u2003c\u3000d\u0085e\u2028f\u2029g\u180eh\u1680i
<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n
<|endoftext|><|im_end|><|im_start|> <repo_name>x<file_sep> <|im_sta <empty_output>""".split("\n")

RANGES = [(0x20, 0x7E), (0xA0, 0x24F), (0x370, 0x3FF), (0x400, 0x52F), (0x530, 0x6FF),
          (0x900, 0xDFF), (0xE00, 0x10FF), (0x1100, 0x11FF), (0x1E00, 0x20CF), (0x2100, 0x27BF),
          (0x2C00, 0x2DFF), (0x3000, 0x30FF), (0x4E00, 0x9FFF), (0xA000, 0xA8FF), (0xAC00, 0xD7A3),
          (0xF900, 0xFFFD), (0x10000, 0x107FF), (0x11000, 0x11FFF), (0x16D00, 0x16FFF),
          (0x1D400, 0x1D7FF), (0x1E5D0, 0x1E5FF), (0x1F300, 0x1FAFF), (0x2EBF0, 0x2EE5D),
          (0xE0000, 0xE01EF), (0x10FFF0, 0x10FFFF)]
SPACES = [" ", "  ", "    ", "\t", "\n", "\n\n", "\r\n", " \n", "\n ", "\u00a0", "\u3000", "\u2009",
          "\x0b", "\x0c", "\x1c", "\x85", " \t ", "\u180e"]


def texts(rng):
    words = sorted({w for s in SAMPLES for w in s.split(" ") if w})
    yield from SAMPLES
    yield ""
    for n in range(1, 40):
        yield " " * n
        yield " " * n + "x" + " " * n
        yield "\n" * n + "1" * n
        yield "a" * (n * n) + "é" * n
    for c in range(0x00, 0x250):
        yield chr(c)
        yield f"a{chr(c)}b {chr(c)}{chr(c)} 1{chr(c)}2"
    for k in range(len(SAMPLES)):  # several lines
        yield "\n".join(SAMPLES[k:k + 4]) + "\n"
    for _ in range(1000):  # sentences of real words
        yield "".join(rng.choice(words) + rng.choice(SPACES if rng.random() < 0.3 else [" "])
                      for _ in range(rng.randint(1, 14)))
    for _ in range(900):  # one or two scripts
        ranges = rng.sample(RANGES, 2)
        out = []
        for _ in range(rng.randint(1, 24)):
            c = rng.randint(*rng.choice(ranges))
            out.append(chr(c) if not 0xD800 <= c < 0xE000 else "?")
            if rng.random() < 0.15:
                out.append(rng.choice(SPACES))
        yield "".join(out)
    for _ in range(700):  # digits, punctuation and white space
        yield "".join(rng.choice(["0", "7", "42", "٣", "½", "x", "'s", "'", "''", "'ll", "'S", ".",
                                  "...", "—", "$", "\u0301", "\U000116d0"] + SPACES)
                      for _ in range(rng.randint(1, 20)))
    for _ in range(600):  # random bytes
        yield bytes(rng.randrange(256) for _ in range(rng.randint(1, 24))).decode("utf-8", "replace")
    for _ in range(300):  # long words
        yield "".join(rng.choice("abcdefghijklmnopqrstuvwxyzABCĠé") for _ in range(rng.randint(40, 120)))
    for _ in range(300):  # pieces of special tokens
        yield "".join(rng.choice(["<|im_end|>", "<|im_start|>", "<|", "|>", "im_end", " ", "\n",
                                  "<|endoftext|>", "<reponame>", "user", "<"])
                      for _ in range(rng.randint(1, 10)))


def main():
    model, out = sys.argv[1:]
    tokenizer = load_tokenizer(model)
    lines = list(dict.fromkeys(texts(random.Random(1))))
    with open(out, "w", encoding="utf-8") as f:
        for text in lines:
            ids = tokenizer(text, add_special_tokens=False)["input_ids"]
            f.write(json.dumps({"t": text, "i": ids}, separators=(",", ":"), ensure_ascii=False) + "\n")
    print(len(lines), "lines,", os.path.getsize(out), "bytes")


if __name__ == "__main__":
    main()
