"""The short cut through Jinja's sandbox changes nothing but the time: same text, same refusals."""

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers.utils.chat_template_utils import _cached_compile_jinja_template

from finetune.training.sandboxed import hasten
from tests.bench.tokens import LONG, SHORT

READS = """
{%- for m in messages %}{{ loop.index }}{{ loop.index0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}
{{ m.role }}|{{ m.items is defined }}|{{ m.keys() | list }}|{{ m.absent is defined }}|{{ m.get('content') }}
{{ m.content.strip('a').upper().split('b') }}|{{ m.content.startswith('a') and m.content.replace('a', 'b') }}
{{ m.content.nothing is defined }}|{{ m['role'].title() }}|{{ '{}'.format(m.content) }}|{{ m.copy.__self__ is defined }}
{%- endfor %}{% macro shout(text) %}{{ text.upper() }}{% endmacro %}{{ shout('x') }}
{%- for n in [1, 2] %}{% set mark = 'a-b'.split('-') %}{{ mark[0].join(['p', 'q']) }}{% endfor %}
"""
#: Each is refused by the sandbox, or gives nothing.
ATTACKS = [
    "{{ messages[0].content.__class__ }}",
    "{{ messages[0].content.upper.__self__.__class__.__mro__ }}",
    "{{ '{0.__class__}'.format(messages) }}",
    "{{ messages[0].content.format_map({'a': 1}) }}",
    "{{ messages.append(1) }}",
    "{{ messages[0].update({'a': 1}) }}",
    "{{ messages[0].pop('role') }}",
    "{{ messages[0].__class__ }}",
    "{{ loop.__class__ }}",
    "{{ messages[0].content.split.__globals__ }}",
    "{{ messages[0].content.encode('nothing') }}",
    "{{ messages[0].content.strip(1, 2, 3) }}",
    "{{ messages[0].missing() }}",
]

#: Keys that are also what a dict has, or that a sandbox hides.
keys = st.sampled_from(["content", "role", "items", "keys", "get", "__class__", "_own", "update", "absent"])
message = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant"]), "content": st.text(max_size=20)}
).flatmap(lambda base: st.dictionaries(keys, st.text(max_size=5), max_size=3).map(lambda more: {**more, **base}))
conversations = st.lists(message, min_size=1, max_size=4)


def rendered(template: Any, messages: list[dict[str, str]]) -> tuple[str, str]:
    try:
        return "text", template.render(messages=copy.deepcopy(messages), add_generation_prompt=True)
    except Exception as error:  # noqa: BLE001 -- whatever it raises, both must
        return type(error).__name__, str(error)


def pair(text: str) -> tuple[Any, Any]:
    careful, hastened = _cached_compile_jinja_template(text), _cached_compile_jinja_template(text)
    hasten(hastened.environment)
    hasten(hastened.environment)
    assert "call" in vars(hastened.environment)
    assert "call" not in vars(careful.environment)
    return careful, hastened


PAIRS = {text: pair(text) for text in (READS, SHORT, LONG)}


@pytest.mark.parametrize("text", PAIRS, ids=["reads", "short", "long"])
@given(messages=conversations)
def test_the_same_text(text: str, messages: list[dict[str, str]]) -> None:
    careful, hastened = PAIRS[text]
    assert rendered(hastened, messages) == rendered(careful, messages)


@pytest.mark.parametrize("attack", ATTACKS)
def test_the_same_refusals(attack: str) -> None:
    careful, hastened = pair(attack)
    messages = [{"role": "user", "content": "{a.__class__}"}]
    said = rendered(hastened, messages)
    assert said == rendered(careful, messages)
    assert said[0] != "text" or said[1] in ("", "None")


def test_the_trainer_takes_it() -> None:
    """transformers still compiles where we look for it."""
    from transformers.utils.chat_template_utils import _compile_jinja_template

    from finetune.training.template import Template

    text = SHORT + "{# for this test #}"
    Template(lambda tools: text, {}).texts([{"messages": [{"role": "user", "content": "a"}]}])
    assert "call" in vars(_compile_jinja_template(text).environment)
