"""The recipe that `ft init` writes: every field there is, the useful ones on, the others one `#` away."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from finetune.spec.fields import Field, children
from finetune.spec.scalars import flow

_HEAD: Final = """\
# yaml-language-server: $schema=./recipe.schema.json
#
# {name}: one fine-tuning job, for `ft`.
#   check it    ft validate recipe.yaml
#   run it      ft submit recipe.yaml
#   vary it     ft submit recipe.yaml --set training.epochs=1 --set lora.r=32
# A line that begins with `#` and a name is a field that is off, with its default or an example: delete the `#`,
# and the one before the name of its section. An unset field leaves the choice to the target, or takes its default.
"""


def starter(
    name: str,
    base_model: str,
    dataset: str,
    provider: str = "local",
    settings: Mapping[str, Any] | None = None,
) -> str:
    """The text of a commented recipe, valid whenever the arguments are.

    `settings` turns further fields on, by dotted name (`{"training.epochs": 5}`); without it the recipe holds a
    tenth of the rows back for validation.
    """
    on = {"validation.split": 0.1} if settings is None else dict(settings)
    on |= {"version": 1, "name": name, "base_model": base_model, "dataset.path": dataset, "provider": provider}
    lines = [line for field in children("") for line in _field(field, on)]
    return (_HEAD.format(name=flow(name)) + "\n" + "\n".join(lines) + "\n").replace("\n\n\n", "\n\n")


def _field(field: Field, on: Mapping[str, Any]) -> Iterator[str]:
    if field.section is not None:
        yield ""
    yield f"# {field.description}"
    if field.section is None:
        yield _line(field, on)
        return
    inside = children(field.name)
    yield f"{field.key}:" if any(each.name in on for each in inside) else f"#{field.key}:"
    for each in inside:
        yield f"  # {each.description}"
        yield f"  {_line(each, on)}"
    yield ""


def _line(field: Field, on: Mapping[str, Any]) -> str:
    if field.name in on:
        return f"{field.key}: {flow(on[field.name])}"
    return f"#{field.key}: {flow(field.example)}"
