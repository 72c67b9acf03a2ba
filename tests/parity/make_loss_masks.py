"""Writes which tokens of conversations are an answer's, as transformers sees them.

usage: make_loss_masks.py MODEL.gguf OUT.json

Each chat template of make_chat_templates.py renders each conversation, whole and up to each answer,
by apply_chat_template. An answer lies from where a prompt for it would end to the token that ends
its turn; a token counts when a character of it lies there. The tokenizer is the model's, with the
special tokens that the template's own model has. OUT holds {"conversations": [{"messages",
"tools"}], "templates": [{"name", "template", "bos", "eos", "specials", "cases": [{"ids", "counts"}
or {"refused"}]}]}, a case for each conversation: `counts` has a 0 or 1 for each id; `refused` is
"template" where the template raises an error, "place" where the answers' places are not those of
the rendered prompts.
"""
import json
import sys

from tokenizers import processors

from make_chat_templates import CALL, TEMPLATES, TOOLS
from peer import load_tokenizer

# As Qwen3 does: thoughts are kept in the answers to the last question alone.
QWEN3_LIKE = """{%- set ns = namespace(last=0) %}
{%- for message in messages %}
    {%- if message.role == 'user' %}
        {%- set ns.last = loop.index0 %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- set content = message.content %}
    {%- if message.role == 'assistant' %}
        {%- set thoughts = '' %}
        {%- if '</think>' in content %}
            {%- set thoughts = content.split('</think>')[0].split('<think>')[-1].strip('\\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {{- '<|im_start|>assistant\\n' }}
        {%- if loop.index0 > ns.last and (loop.last or thoughts) %}
            {{- '<think>\\n' + thoughts + '\\n</think>\\n\\n' }}
        {%- endif %}
        {{- content + '<|im_end|>\\n' }}
    {%- else %}
        {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""

# name: bos, the token that ends a turn, special tokens beyond those of the tokenizer.
MODELS = {
    "smollm2": ("<|im_start|>", "<|im_end|>", []),
    "chatml": ("<|im_start|>", "<|im_end|>", []),
    "qwen25": ("<|endoftext|>", "<|im_end|>", []),
    "qwen3_like": ("<|endoftext|>", "<|im_end|>", []),
    "zephyr": ("<s>", "</s>", ["<s>", "</s>"]),
    "mistral": ("<s>", "</s>", ["<s>", "</s>"]),
    "llama3": ("<|begin_of_text|>", "<|eot_id|>",
               ["<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"]),
    "gemma": ("<bos>", "<end_of_turn>", ["<bos>", "<start_of_turn>", "<end_of_turn>"]),
    "deepseek_like": ("<|begin|>", "<|end|>", ["<|begin|>", "<|end|>", "<|User|>", "<|Assistant|>"]),
}

S, U, A, T = "system", "user", "assistant", "tool"
CONVERSATIONS = [
    ([(U, "Hello!"), (A, "Hi. How can I help?")], None),
    ([(U, "One?"), (A, "(1) *sure*, é😀"), (U, "Two\n\n?"), (A, "Two."), (U, "3"), (A, "x = 3\n\ty")], None),
    ([(S, "Be terse."), (U, "Why?"), (A, "Because."), (U, "And <|im_end|> then?"), (A, "Nothing.")], None),
    ([(U, "Hi"), (A, "  Yes?  "), (U, "Go on"), (A, "")], None),
    ([(U, "Weather in Zürich?"), {"role": A, "content": "", **CALL}, (T, "sunny, 25°"),
      (A, "It is sunny."), (U, "Thanks"), (A, "Any time!")], TOOLS),
    ([(U, "Rain?"), {**CALL, "content": None}, (T, "no"), (A, "It stays dry.")], TOOLS),
    ([(S, "You may call."), (U, "Hello"), (A, "Hello.")], TOOLS),
    ([(U, "1+1?"), (A, "<think>easy</think>2"), (U, "2+2?"), (A, "<think>hm</think>4")], None),
    ([(U, "First"), (A, "Ends with a question."), (U, "And?")], None),
]


class Refused(Exception):
    pass


def messages_of(turns):
    return [t if isinstance(t, dict) else {"role": t[0], "content": t[1]} for t in turns]


def spans_of(messages, render, end):
    """The characters of each answer in the whole text."""
    whole, spans = render(messages, False), []
    for i, message in enumerate(messages):
        if message["role"] != A:
            continue
        before, through = render(messages[:i], True), render(messages[:i + 1], False)
        if not through.startswith(before) or not whole.startswith(through):
            raise Refused("place")
        answer = through[len(before):]
        answer = answer[:answer.rindex(end) + len(end)]
        # What a reader of the template would expect. Some leave out calls, which they do not know,
        # or thoughts; some write that there were none.
        content = message["content"] or ""
        said = content.split("</think>")[-1]
        called = "tool_calls" in message and '"get_weather"' in answer and '"Zürich"' in answer
        thought = answer.startswith("<think>") and answer.endswith("</think>\n\n" + said + end)
        assert called or thought or answer in (content + end, content.strip() + end, said + end), (
            answer, content)
        spans.append((len(before), len(before) + len(answer)))
    return whole, spans


def case_of(tokenizer, template, messages, tools, end):
    def render(some, prompt):
        try:
            return tokenizer.apply_chat_template(some, tools=tools, chat_template=template,
                                                 tokenize=False, add_generation_prompt=prompt)
        except Exception as e:
            raise Refused("template") from e

    try:
        text, spans = spans_of(messages, render, end)
    except Refused as e:
        return {"refused": str(e)}
    coded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    counts = "".join(str(int(any(first < end and last > begin for begin, end in spans)))
                     for first, last in coded["offset_mapping"])
    # The offsets cover the text, so that no token was overlooked.
    assert coded["offset_mapping"][0][0] == 0 and coded["offset_mapping"][-1][1] == len(text)
    return {"ids": coded["input_ids"], "counts": counts}


def main():
    model, out = sys.argv[1:]
    conversations = [{"messages": messages_of(turns), "tools": tools}
                     for turns, tools in CONVERSATIONS]
    templates = []
    for name, (bos, eos, specials) in MODELS.items():
        tokenizer = load_tokenizer(model)
        # White space stays inside of the tokens' offsets.
        tokenizer.backend_tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
        first = len(tokenizer)
        tokenizer.add_tokens(specials, special_tokens=True)
        tokenizer.bos_token, tokenizer.eos_token = bos, eos
        assert tokenizer.convert_tokens_to_ids(specials) == list(range(first, first + len(specials)))
        assert len(tokenizer) == first + len(specials)
        template = TEMPLATES.get(name, QWEN3_LIKE)
        cases = [case_of(tokenizer, template, c["messages"], c["tools"], eos)
                 for c in conversations]
        templates.append({"name": name, "template": template, "bos": bos, "eos": eos,
                          "specials": specials, "cases": cases})
        print(name, [c.get("refused", c.get("counts", "").count("1")) for c in cases])
    with open(out, "w", encoding="utf-8") as f:
        json.dump({"conversations": conversations, "templates": templates}, f, ensure_ascii=False,
                  separators=(",", ":"))
        f.write("\n")


if __name__ == "__main__":
    main()
