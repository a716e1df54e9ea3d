"""Which models there are: those of the catalogue's sheet, and the tuned ones."""

from typing import Any, Final

from finetune.catalogue import load
from finetune.catalogue.rules import Method
from finetune.catalogue.sheets import Model
from finetune.sandbox.openai.words import no_model_to_ask, no_such_model, not_tunable

METHODS: Final[dict[str, Method]] = {"supervised": "sft", "dpo": "dpo"}
_SINCE: Final = 1_715_367_049


class Models:
    """The models of one organisation. Not safe for threads: the sandbox holds its lock."""

    def __init__(self, provider: str, owner: str, organization: str) -> None:
        """Reads the sheet of `provider`, which must be there; base models belong to `owner`."""
        self._sheet, self._owner, self._organization = load().sheets[provider], owner, organization
        #: Tuned models by name: when they were made, and the snapshot under them.
        self._tuned: dict[str, tuple[int, str]] = {}

    def tunable(self, name: str, method: str) -> str:
        """The snapshot that a job on this model trains. Raises Refused when it cannot be trained by this method."""
        entry = self._entry(name)
        claim = entry.methods.of(METHODS[method]) if entry else None
        if entry is None or claim is None or not claim.value:
            raise not_tunable(name)
        return name if "*" in entry.name else entry.name

    def is_tuned(self, name: str) -> bool:
        """Whether this is a model that was made here."""
        return name in self._tuned

    def answering(self, name: str) -> str:
        """The model that answers to a name: itself, or the snapshot that an alias stands for. Raises Refused."""
        if name in self._tuned:
            return name
        entry = self._entry(name)
        if entry is None:
            raise no_model_to_ask(name)
        return name if "*" in entry.name else entry.name

    def add(self, name: str, snapshot: str, created_at: int) -> None:
        """Keep a tuned model."""
        self._tuned[name] = (created_at, snapshot)

    def list(self) -> list[dict[str, Any]]:
        """All models, the tuned ones last."""
        names = [each.name for each in self._sheet.models if "*" not in each.name]
        return [self._shown(name) for name in (*names, *self._tuned)]

    def get(self, name: str) -> dict[str, Any]:
        """One model. Raises Refused."""
        if name not in self._tuned and self._entry(name) is None:
            raise no_such_model(name)
        return self._shown(name)

    def delete(self, name: str) -> None:
        """Forget a tuned model. Raises Refused when it is none of these."""
        if name not in self._tuned:
            raise no_such_model(name)
        del self._tuned[name]

    def _entry(self, name: str) -> Model | None:
        """The sheet's entry of a base model, or of the one under a tuned model that exists."""
        snapshot = self._tuned[name][1] if name in self._tuned else name
        entry = self._sheet.model(snapshot)
        # The sheet also names tuned models as a pattern; only those that were made here exist.
        return entry if entry and (snapshot == entry.name or snapshot in entry.aliases or "*" in entry.name) else None

    def _shown(self, name: str) -> dict[str, Any]:
        created_at, owner = _SINCE, self._owner
        if name in self._tuned:
            created_at, owner = self._tuned[name][0], self._organization
        return {"id": name, "object": "model", "created": created_at, "owned_by": owner}
