"""What the commands about the catalogue ask for."""

import difflib
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from finetune.errors import NotFound, Problem
from finetune.wiring.parts import Parts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from finetune.catalogue.entries import Entry
    from finetune.catalogue.scores import Columns, Scores
    from finetune.expiring import Ending

_CLOSE = 0.5


class CatalogueDesk(Parts):
    """The parts, with the questions about what targets can do, cost, and until when."""

    def sheets(self) -> "list[Entry]":
        """Every provider. Raises StateError."""
        from finetune.catalogue.entries import Entry

        today = self.clock.now().date()
        return [Entry(sheet=each, today=today) for each in self.catalogue.sheets.values()]

    def is_provider(self, name: str) -> bool:
        """Whether the catalogue has a sheet of this name."""
        return self.catalogue.provider(name) is not None

    def entries(self, name: str) -> "list[Entry]":
        """The provider of this name, or the model at each target that has it, or at one (`provider/model`).

        Raises NotFound, StateError.
        """
        from finetune.catalogue.entries import Entry, entries
        from finetune.catalogue.weights import called

        today = self.clock.now().date()
        if (sheet := self.catalogue.provider(name)) is not None:
            return [Entry(sheet=sheet, today=today)]
        found = list(entries(self.catalogue, lambda target: called(self.catalogue, target, name), today))
        # As recipes write a target, and as this command heads an entry.
        at, _, there = name.partition("/")
        if not found and there and at in self.catalogue.sheets:
            every = entries(self.catalogue, lambda target: called(self.catalogue, target, there), today)
            found = [each for each in every if each.sheet.provider == at]
        if not found:
            raise NotFound(self._nothing(name))
        return found

    def _nothing(self, name: str) -> Problem:
        every = [*self.catalogue.sheets]
        for sheet in self.catalogue.sheets.values():
            for model in sheet.models:
                every += [model.name, *model.aliases, *([model.open_weights.value] if model.open_weights else [])]
        near = difflib.get_close_matches(name, dict.fromkeys(every), 3, _CLOSE)
        return Problem(
            code="E707",
            what=f"the catalogue has no provider and no model {name!r}",
            why="it has what docs/catalogue.md lists, and what FT_CATALOGUE adds",
            fix=f"did you mean {' or '.join(near)}?" if near else "`ft catalogue show` lists providers",
        )

    def import_scores(self, path: Path, name: str, columns: "Columns") -> "tuple[Path, Scores]":
        """Keep the scores of a CSV file under this name; the file they are in now. Raises UsageError, StateError."""
        from finetune.catalogue.scores import keep, parsed

        found = parsed(path, columns)
        return keep(self.settings.scores_dir, name, found), found

    def scores_of(self, name: str) -> "Mapping[str, float]":
        """The scores of this name. Raises NotFound, StateError."""
        from finetune.catalogue.scores import one

        return one(self.settings.scores_dir, name)

    def expiring(self, within: timedelta) -> "list[Ending]":
        """What ends by the catalogue's dates, by day. Raises StateError."""
        from finetune.expiring import Holdings, expiring

        ours = Holdings(versions=self.models.models(), jobs=self.jobs.recent(unfinished=True))
        found = expiring(self.catalogue, ours, self.clock.now().date(), within)
        # A stand-in ends when somebody stops it.
        return [each for each in found if each.provider not in self.settings.sandbox]

    def undated(self) -> list[str]:
        """Versions at providers of which the catalogue does not know when they end. Raises StateError."""
        from finetune.expiring import undated

        real = (each for each in self.models.models() if each.provider not in self.settings.sandbox)
        return undated(self.catalogue, real)
