"""Writes chat templates, conversations and the text that Jinja renders them to.

usage: make_chat_templates.py OUT.json

The environment is the one of transformers' apply_chat_template: trim_blocks, lstrip_blocks,
loop controls, and its tojson. OUT holds [{"name", "template", "cases": [{"messages", "tools",
"add_generation_prompt", "text" or "error"}]}].
"""

import json
import sys

from jinja2 import TemplateError
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

TEMPLATES = {
    "smollm2": "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    "chatml": "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    "zephyr": """{% for message in messages %}
{% if message['role'] == 'user' %}
{{ '<|user|>\n' + message['content'] + eos_token }}
{% elif message['role'] == 'system' %}
{{ '<|system|>\n' + message['content'] + eos_token }}
{% elif message['role'] == 'assistant' %}
{{ '<|assistant|>\n'  + message['content'] + eos_token }}
{% endif %}
{% if loop.last and add_generation_prompt %}
{{ '<|assistant|>' }}
{% endif %}
{% endfor %}""",
    "llama3": """{{- bos_token }}
{%- if not date_string is defined %}
    {%- set date_string = "26 Jul 2024" %}
{%- endif %}
{%- if not tools is defined %}
    {%- set tools = none %}
{%- endif %}

{#- This block extracts the system message, so we can slot it into the right place. #}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{%- if tools is not none %}
    {{- "Environment: ipython\\n" }}
{%- endif %}
{{- "Cutting Knowledge Date: December 2023\\n" }}
{{- "Today Date: " + date_string + "\\n\\n" }}
{%- if tools is not none %}
    {{- "You have access to the following functions.\\n\\n" }}
    {%- for t in tools %}
        {{- t | tojson(indent=4) }}
        {{- "\\n\\n" }}
    {%- endfor %}
{%- endif %}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}
    {%- elif 'tool_calls' in message %}
        {%- if not message.tool_calls|length == 1 %}
            {{- raise_exception("This model only supports single tool-calls at once!") }}
        {%- endif %}
        {%- set tool_call = message.tool_calls[0].function %}
        {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' -}}
        {{- '{"name": "' + tool_call.name + '", ' }}
        {{- '"parameters": ' }}
        {{- tool_call.arguments | tojson }}
        {{- "}" }}
        {{- "<|eot_id|>" }}
    {%- elif message.role == "tool" or message.role == "ipython" %}
        {{- "<|start_header_id|>ipython<|end_header_id|>\\n\\n" }}
        {%- if message.content is mapping or message.content is iterable %}
            {{- message.content | tojson }}
        {%- else %}
            {{- message.content }}
        {%- endif %}
        {{- "<|eot_id|>" }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
""",
    "mistral": "{{ bos_token }}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}{% elif message['role'] == 'assistant' %}{{ message['content'] + eos_token}}{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}",
    "qwen25": """{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0]['role'] == 'system' %}
        {{- messages[0]['content'] }}
    {%- else %}
        {{- 'You are Qwen.' }}
    {%- endif %}
    {{- "\\n\\n# Tools\\n<tools>" }}
    {%- for tool in tools %}
        {{- "\\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "\\n</tools><|im_end|>\\n" }}
{%- else %}
    {%- if messages[0]['role'] == 'system' %}
        {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}
    {%- else %}
        {{- '<|im_start|>system\\nYou are Qwen.<|im_end|>\\n' }}
    {%- endif %}
{%- endif %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) or (message.role == "assistant" and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {{- '<|im_start|>' + message.role }}
        {%- if message.content %}
            {{- '\\n' + message.content }}
        {%- endif %}
        {%- for tool_call in message.tool_calls %}
            {%- if tool_call.function is defined %}
                {%- set tool_call = tool_call.function %}
            {%- endif %}
            {{- '\\n<tool_call>\\n{"name": "' }}
            {{- tool_call.name }}
            {{- '", "arguments": ' }}
            {{- tool_call.arguments | tojson }}
            {{- '}\\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == "tool" %}
        {%- if (loop.index0 == 0) or (messages[loop.index0 - 1].role != "tool") %}
            {{- '<|im_start|>user' }}
        {%- endif %}
        {{- '\\n<tool_response>\\n' }}
        {{- message.content }}
        {{- '\\n</tool_response>' }}
        {%- if loop.last or (messages[loop.index0 + 1].role != "tool") %}
            {{- '<|im_end|>\\n' }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
""",
    "gemma": "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}{% for message in messages %}{% if (message['role'] == 'assistant') %}{% set role = 'model' %}{% else %}{% set role = message['role'] %}{% endif %}{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}{% if add_generation_prompt %}{{'<start_of_turn>model\n'}}{% endif %}",
    "deepseek_like": """{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}{% set ns = namespace(is_first=false, system_prompt='', n=0) %}{%- for message in messages %}{%- if message['role'] == 'system' %}{% set ns.system_prompt = message['content'] %}{%- endif %}{%- endfor %}{{bos_token}}{{ns.system_prompt}}{%- for message in messages %}{% set content = message['content'] %}{%- if message['role'] == 'user' %}{%- set ns.n = ns.n + 1 -%}{{'<|User|>' ~ ns.n ~ ':' ~ content}}{%- endif %}{%- if message['role'] == 'assistant' and content is not none %}{% if '</think>' in content %}{% set content = content.split('</think>')[-1] %}{% endif %}{{'<|Assistant|>' + content + eos_token}}{%- endif %}{%- endfor -%}{% if add_generation_prompt %}{{'<|Assistant|>'}}{% endif %}""",
    "features": """{%- macro show(item, level=1, mark='-') -%}
{{ mark * level }} {{ item.role | upper }}: {{ item.content | default('(none)', true) | replace('\\n', ' ') | trim }}
{%- endmacro -%}
  {# a comment #}
{% set seen = namespace(roles=[]) %}
{% for m in messages if m.role != 'tool' %}
    {{ show(m, level=loop.index) }} [{{ loop.index0 }}/{{ loop.length }}/{{ loop.revindex }}{{ ' last' if loop.last }}]
    {% if m.role not in seen.roles %}
        {%+ set seen.roles = seen.roles + [m.role] %}
    {% endif %}
    {%- if loop.index >= 4 %}{% break %}{% endif %}
{% else %}
nobody
{% endfor %}
{{ seen.roles | join(', ') }} | {{ messages | map(attribute='role') | unique | list }} | {{ messages|selectattr('role', 'equalto', 'user')|list|length }}
{{ {'a': 1, 'b': [1.5, none, true, "it's"]} }} {{ {'z': 'é<&>', 'a': [1, {}]} | tojson }} {{ [3,1,2]|sort|reverse|list }}
{{ 7 // 2 }} {{ -7 // 2 }} {{ -7 % 3 }} {{ 7 / 2 }} {{ 2 ** 10 }} {{ 1 < 2 < 3 }} {{ 'ab' in 'cabd' }} {{ 1 == 1.0 }} {{ not 1 is odd }}
{{ 'héllo wörld'[1:4] }} {{ 'abc'[::-1] }} {{ 'abc'[-1] }} {{ [1,2,3][1:] }} {{ 'Hello World'.split(' ', 1) }} {{ ' x '.strip() ~ 'y' }} {{ 'a,b,c'.split(',')[-1] }}
{{ undefined_thing is defined }} {{ undefined_thing | default('d') }} [{{ undefined_thing }}] {{ messages[0].get('nope', 'no') }} {{ messages[0].nope is undefined }}
{% raw %}{{ raw }}{% endraw %}
{% set block %}
in  a block
{% endset %}
{{ block | trim | title }} {{ 'x'.startswith(('a', 'x')) }} {{ range(1, 10, 3) | list }} {{ '%' ~ 5 }} {{ 'abc' | length }} {{ "été".upper() }}
{% for k, v in {'p': 1, 'q': 2}.items() %}{{ k }}={{ v }}{{ ';' if not loop.last else '.' }}{% endfor %}
{%- for i in range(6) %}{% if i == 1 %}{% continue %}{% endif %}{{ i }}{{ loop.previtem }}{% endfor +%}
{{ 'multi\nline' | indent(2) }} {{ messages | length }}{{- ' end ' -}}
   {{ 3.0 }} {{ 1.5 if false else 0.1 + 0.2 }} {{ '1' + '2' }} {{ '5' | int + 1 }} {{ "q" "r" }}
""",
}

U, A, S = "user", "assistant", "system"
CALL = {"role": A, "tool_calls": [{"type": "function", "function": {
    "name": "get_weather", "arguments": {"city": "Zürich", "days": 2, "exact": False}}}]}
CONVERSATIONS = [
    [(U, "Hello!")],
    [(S, " You are terse. "), (U, "Hi\nthere"), (A, " Yes? "), (U, "Ünïcödé 😀 <|im_end|>")],
    [(U, "1"), (A, "<think>hm</think>2"), (U, "3"), (A, "4")],
    [(U, "Weather?"), CALL, {"role": "tool", "content": "sunny, 25°"}, (A, "It is sunny."), (U, "")],
]
TOOLS = [{"type": "function", "function": {"name": "get_weather", "description": "Today's \"weather\"",
          "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}]


def raise_exception(message):
    raise TemplateError(message)


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def main():
    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    out = []
    for name, template in TEMPLATES.items():
        compiled = env.from_string(template)
        cases = []
        for turns in CONVERSATIONS:
            messages = [t if isinstance(t, dict) else {"role": t[0], "content": t[1]} for t in turns]
            for tools in (None, TOOLS):
                for prompt in (True, False):
                    case = {"messages": messages, "tools": tools, "add_generation_prompt": prompt}
                    try:
                        case["text"] = compiled.render(**case, documents=None, bos_token="<s>", eos_token="</s>")
                    except Exception as e:
                        case["error"] = str(e)
                    cases.append(case)
        out.append({"name": name, "template": template, "cases": cases})
    with open(sys.argv[1], "w", encoding="utf-8") as f:
        json.dump(out, f, ensure_ascii=False, indent=0)
    print(sum(len(t["cases"]) for t in out), "cases,", sum("error" in c for t in out for c in t["cases"]), "errors")


if __name__ == "__main__":
    main()
