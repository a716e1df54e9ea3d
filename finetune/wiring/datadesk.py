"""What the commands about training data ask for."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from finetune.errors import Problem, UsageError
from finetune.wiring.parts import Parts

if TYPE_CHECKING:
    from finetune.catalogue import DataRules, Method
    from finetune.data import DataReport, DataRequest
    from finetune.data.preview import Preview
    from finetune.data.survey import Survey
    from finetune.data.writing import Copy

_RECIPES = (".yaml", ".yml")


@dataclass(frozen=True, kw_only=True)
class Rows:
    """The rows that a command is about: what to read, and the model that they are meant for."""

    request: "DataRequest"
    #: None when neither a recipe nor `--target` names one.
    base_model: str | None
    rules: "DataRules | None"


class DataDesk(Parts):
    """The parts, with the questions about training data."""

    def rows(self, source: str, *, format: str, target: str | None, fetch: bool) -> Rows:
        """The rows of a recipe (`.yaml`, `.yml`), or of any place that `dataset.path` may name.

        `target` is `provider/base_model` and goes before the recipe's. Raises RecipeError, UsageError.
        """
        from finetune.data import DataRequest

        file = Path(source)
        if file.suffix.lower() in _RECIPES:
            found = self._of_recipe(file, fetch)
        else:
            request = DataRequest(train=source, folder=Path(), kind=None, fetch=fetch)
            found = Rows(request=request, base_model=None, rules=None)
        if format != "auto":
            found = replace(found, request=replace(found.request, format=self._readable(format)))
        return self._aimed(found, target) if target else found

    def survey(self, rows: Rows) -> "Survey":
        """Count all rows. Raises StateError."""
        from finetune.data.survey import survey

        return survey(rows.request, lambda: self.tokens_of(rows.base_model or ""), self._reading)

    def preview(self, rows: Rows, count: int, to: str | None) -> "Preview":
        """The first rows as the target gets them; `to` is a layout, default: the target's."""
        from finetune.data.preview import preview

        layout = self.writable(to) if to else (rows.rules.format if rows.rules else None)
        return preview(rows.request, count, layout, lambda: self.tokens_of(rows.base_model or ""))

    def copy(self, rows: Rows, copy: "Copy") -> "DataReport":
        """Write the rows anew. Raises DataError, StateError."""
        from finetune.data.writing import write

        return write(rows.request, copy, self._reading)

    def writable(self, name: str) -> str:
        """The name of a layout that can be written. Raises UsageError."""
        from finetune.data.formats import FORMATS

        return _known(name, [each.name for each in FORMATS.values() if each.write])

    def _readable(self, name: str) -> str:
        from finetune.data.formats import FORMATS

        return _known(name, [each.name for each in FORMATS.values() if each.read])

    def _of_recipe(self, file: Path, fetch: bool) -> Rows:
        from finetune.spec import read

        recipe = read(file, ())
        request = replace(self.submitter.request(recipe), fetch=fetch)
        return Rows(request=request, base_model=recipe.recipe.base_model, rules=request.rules)

    def _aimed(self, rows: Rows, target: str) -> Rows:
        """The rows for another target than the recipe's."""
        provider, _, base_model = target.partition("/")
        sheets = {name: each for name, each in self.catalogue.sheets.items() if each.kind == "trainer"}
        sheet = sheets.get(provider)
        if sheet is None or not base_model:
            known = ", ".join(sorted(sheets))
            what = f"{target!r} is no target"
            why = f"a target is provider/base_model, and the providers are {known}"
            raise UsageError(
                Problem(code="E901", what=what, why=why, fix="for example: --target local/Qwen/Qwen3-0.6B")
            )
        method: Method = "dpo" if rows.request.kind == "preference" else "sft"
        rules = sheet.rules(method, base_model)
        return Rows(request=replace(rows.request, rules=rules), base_model=base_model, rules=rules)


def _known(name: str, names: list[str]) -> str:
    if name in names:
        return name
    what = f"there is no layout {name!r} here"
    raise UsageError(Problem(code="E901", what=what, why=f"there are {', '.join(names)}", fix="write one of these"))
