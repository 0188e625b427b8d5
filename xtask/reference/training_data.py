"""Makes what tests of training data are compared with: a tokenizer that the `tokenizers` library has
learnt from a text, what it makes of other texts, and what `transformers` makes of conversations.

usage: training_data.py FIXTURES
"""

import json
import pathlib
import sys

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers.utils.chat_template_utils import _compile_jinja_template

END = "<|endoftext|>"
VOCABULARY = 390

TEXTS = [
    "",
    " ",
    "The keeper's light.",
    "  two  spaces\t\ttabs \n\n\nlines \n",
    "they'll we've I'm she'd it's 'S 'LL don''t",
    "Größe, naïve café — façade…",
    "灯台の光 Маяк светит 🌊🐟👩‍🚀",
    "3.14 1000 ½ ² Ⅷ ٣",
    "e\u0301 a\u0300 combining; \u200bzero width; \u00a0no break; \u2028line",
    "x = {'a': [1, 2]}; // comment!!",
    "\r\n\x00\x7f\ufeff\ufffd",
]


def tokenizer(fixtures):
    text = (fixtures / "text.txt").read_text()
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        min_frequency=2,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator([text], trainer)
    assert made.get_vocab_size() == VOCABULARY, made.get_vocab_size()
    made.post_processor = processors.TemplateProcessing(
        single=f"{END} $A",
        pair=f"{END} $A:0 {END}:0 $B:0",
        special_tokens=[(END, made.token_to_id(END))],
    )
    made.save(str(fixtures / "tokenizer.json"))
    encoded = [
        {"text": text, "tokens": made.encode(text, add_special_tokens=False).ids}
        for text in TEXTS
    ]
    write(fixtures / "encodings.json", encoded)


USER = {"role": "user", "content": " How far is it?\n"}
TALK = [
    {"role": "system", "content": "Be brief."},
    USER,
    {"role": "assistant", "content": "Ten <b>miles</b> & a bit – 'more'."},
    {"role": "user", "content": "Really?"},
]
CALLS = [
    USER,
    {
        "role": "assistant",
        "content": "",
        "tool_calls": [
            {"type": "function", "function": {"name": "distance", "arguments": {"to": "Köln", "in": ["km", 1.0, None, True]}}}
        ],
    },
    {"role": "tool", "content": "10"},
]
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "distance",
            "description": "How far it is <to> a place",
            "parameters": {"type": "object", "properties": {"to": {"type": "string"}}, "required": ["to"]},
        },
    }
]

TEMPLATES = {
    "roles": """{{ bos_token }}
{%- for message in messages %}
    {{- '<|' + message['role'] + '|>\\n' }}
    {{- message['content'] | trim + eos_token }}
{% endfor %}
{% if add_generation_prompt %}
<|assistant|>
{% endif %}
""",
    "alternating": """{%- if messages[0]['role'] == 'system' -%}
    {%- set system = messages[0]['content'] + '\\n\\n' -%}
    {%- set rest = messages[1:] -%}
{%- else -%}
    {%- set system = '' -%}
    {%- set rest = messages -%}
{%- endif -%}
{%- for message in rest -%}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{ raise_exception("roles must alternate") }}
    {%- endif -%}
    {%- set role = 'model' if message['role'] == 'assistant' else message['role'] -%}
    {{ '[' ~ role ~ ' ' ~ loop.index ~ '/' ~ loop.length ~ ']' ~ (system if loop.first else '') }}
    {%- if message['content'] is string -%}{{ message['content'].strip() }}
    {%- elif message['content'] is iterable -%}{%- for item in message['content'] -%}{{ item.type }}{%- endfor -%}
    {%- endif -%}
    {{ '[/]\\n' }}
{%- endfor -%}
""",
    "tools": """{%- if tools %}
# Tools
{% for tool in tools %}
{{ tool | tojson }}
{{ tool.function.parameters | tojson(indent=2) }}
{% for key, value in tool['function'].items() %}
- {{ key }}: {{ value if value is string else value | length }}
{% endfor %}
{% endfor %}
{% endif %}
{%- set ns = namespace(last=-1, calls=0) %}
{%- for message in messages[::-1] %}
    {%- if ns.last < 0 and message.role == 'user' %}{% set ns.last = messages | length - 1 - loop.index0 %}{% endif %}
{%- endfor %}
{% for message in messages %}
{% if message.tool_calls is defined and message.tool_calls %}
{% for call in message.tool_calls %}
{% set ns.calls = ns.calls + 1 %}
<call {{ ns.calls }}>{{ call.function.name }}({{ call.function.arguments | tojson }})</call>
{% endfor %}
{% else %}
{{ message.role | upper }}{{ ':' if loop.index0 == ns.last else '>' }} {{ message.content.split(' ')[-1].rstrip('\\n') }}
{% endif %}
{% endfor %}
""",
    "odds": """{% macro shown(thing, mark='*') %}{{ mark }}{{ thing }}{{ mark }}{% endmacro %}
{{ shown(messages | map(attribute='role') | join(', ')) }} {{ shown(true) }}{{ shown(none, mark='-') }}
{{ messages | selectattr('role', 'equalto', 'user') | list | length }} {{ missing is defined }} {{ missing }}
{{ messages[0].content | replace('\\n', '') | capitalize }} {{ 7 // 2 }} {{ 7 / 2 }} {{ 2 ** 3 }} {{ -7 % 3 }}
{{ 'a' in 'abc' }} {{ 'role' in messages[0] }} {{ messages[0].get('name', 'nobody') }} {{ [1, 2] + [3] }}
{{ {'a': 1, 'b': 'x'} }} {{ (1, 'two') }} {{ 1.0 }} {{ 'x' * 3 }} {{ "%s-%d" | format('a', 3) }}
{{ messages | length > 1 and 'many' or 'one' }} {{ 'Title case'.title() }} {{ ' x '.lstrip() }}|
{% for message in messages if message.role != 'system' %}{{ loop.revindex }}{{ loop.last }} {% else %}none{% endfor %}
{% set text %}block {{ messages[0].role }}{% endset %}{{ text }} {{ text.startswith('block') }}
{% filter upper %}loud{% endfilter %} {{ range(3) | list }} {{ 'a,b'.split(',') }} {{ messages[-1].content[:3] }}
""",
    "generation": """{% for message in messages %}
{% if message.role == 'assistant' %}
{% generation %}{{ message.content }}{% endgeneration %}

{% else %}
{{ message.content }}
{%- endif %}
{% endfor %}
""",
}


def conversations(fixtures):
    cases = []
    for name, template in TEMPLATES.items():
        for messages, tools in [([USER], None), (TALK, None), (CALLS, TOOLS)]:
            for prompt in [False, True]:
                case = {
                    "name": name,
                    "template": template,
                    "messages": messages,
                    "tools": tools,
                    "prompt": prompt,
                }
                try:
                    case["text"] = _compile_jinja_template(template).render(
                        messages=messages,
                        tools=tools,
                        documents=None,
                        add_generation_prompt=prompt,
                        bos_token="<s>",
                        eos_token="</s>",
                    )
                except Exception as error:
                    case["raises"] = str(error)
                cases.append(case)
    write(fixtures / "conversations.json", cases)


def write(path, value):
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n")


if __name__ == "__main__":
    directory = pathlib.Path(sys.argv[1])
    tokenizer(directory)
    conversations(directory)
