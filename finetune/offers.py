"""What each installed provider offers: is it set up, does it answer, models, methods, dates; and our files there."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from typing import NamedTuple

from finetune.abilities import Keyed, RemoteFile, Storing
from finetune.catalogue import METHODS, Catalogue, Method
from finetune.catalogue.costs import by_tokens
from finetune.catalogue.eligible import against
from finetune.catalogue.sheets import Model, ProviderSheet
from finetune.errors import NotFound, Problem, ProviderError
from finetune.ports import Provider


@dataclass(frozen=True, kw_only=True)
class Offered:
    """One base model at one provider."""

    name: str
    methods: tuple[str, ...]
    #: What stands against a job today, or should be known: one line each. Empty: nothing.
    notes: tuple[str, ...]
    #: Whether a job can be created today as far as the catalogue knows.
    open: bool
    #: US dollars a million training tokens as published; None when they are not.
    usd_per_million: str | None


@dataclass(frozen=True, kw_only=True)
class Offer:
    """One provider."""

    name: str
    title: str
    #: Whether it bills and gets the data.
    hosted: bool
    #: What is missing before anything can be sent; empty: it is set up.
    missing: tuple[Problem, ...]
    #: What answered; None when it was not asked, or did not answer.
    answered: str | None
    #: Why it did not answer; None when it did, or was not asked.
    trouble: Problem | None
    models: tuple[Offered, ...]
    #: What holds for all its models: conditions, dates.
    notes: tuple[Problem, ...]

    @property
    def open(self) -> bool:
        """Whether any model can be trained there today."""
        return not any(note.level == "error" for note in self.notes)


class Kept(NamedTuple):
    """What of ours is at providers."""

    files: list[tuple[str, RemoteFile]]
    #: Why some of those that were asked did not answer.
    silent: list[ProviderError]


class Offers:
    """Asks providers and the catalogue. Holds no state."""

    def __init__(self, providers: Mapping[str, Provider], catalogue: Catalogue, today: date) -> None:
        self._providers, self._catalogue, self._today = providers, catalogue, today

    def all(self, *, ask: bool) -> list[Offer]:
        """Every installed provider by name. With `ask` those that are set up are sent one request each, at once."""
        with ThreadPoolExecutor(max_workers=8) as pool:
            return list(pool.map(lambda name: self._offer(name, ask=ask), sorted(self._providers)))

    def one(self, name: str, *, ask: bool) -> Offer:
        """One of them. Raises NotFound."""
        if name in self._providers:
            return self._offer(name, ask=ask)
        # One that makes, hosts or serves models only is known, and has another way.
        known = self._catalogue.provider(name) is not None
        raise NotFound(
            Problem(
                code="E708",
                what=f"nothing here trains at {name}" if known else f"there is no provider {name!r}",
                why=f"installed are {', '.join(sorted(self._providers))}",
                fix=f"`ft catalogue show {name}` says what there is instead" if known else "`ft providers` lists them",
            )
        )

    def files(self, name: str | None = None) -> Kept:
        """All that ft has uploaded and is still there, by provider, newest first; without a name of all set up.

        Raises NotFound, and ProviderError when none of those that were asked answers.
        """
        stores = self._stores(name)
        found: list[tuple[str, RemoteFile]] = []
        silent: list[ProviderError] = []
        for each, store in stores:
            try:
                found += [(each, file) for file in store.files()]
            except ProviderError as error:
                silent.append(error)
        if silent and len(silent) == len(stores):
            raise type(silent[0])(*(problem for error in silent for problem in error.problems))
        return Kept(found, silent)

    def delete(self, file_ids: Sequence[str], name: str | None = None) -> list[str]:
        """Delete files of ours by id; returns the ids. Raises ProviderError; NotFound, and deletes none, for others."""
        stores, kept = dict(self._stores(name)), self.files(name)
        found = {file.file_id: stores[each] for each, file in kept.files}
        if left := set(file_ids) - found.keys():
            raise NotFound(
                Problem(
                    code="E706",
                    what=f"no file of ours is called {', '.join(sorted(left))}",
                    why="only files that ft has uploaded are touched; "
                    + ("not every provider answers" if kept.silent else "each provider has answered"),
                    fix="`ft files` lists them",
                )
            )
        wanted = list(dict.fromkeys(file_ids))
        for file_id in wanted:
            found[file_id].delete_file(file_id)
        return wanted

    def _stores(self, name: str | None) -> list[tuple[str, Storing]]:
        if name is not None:
            self.one(name, ask=False)
        found: list[tuple[str, Storing]] = []
        for each, provider in sorted(self._providers.items()):
            if name not in (None, each) or not isinstance(provider, Storing):
                continue
            ready = not (isinstance(provider, Keyed) and provider.unconfigured())
            if ready or name is not None:
                found.append((each, provider))
        return found

    def _offer(self, name: str, *, ask: bool) -> Offer:
        provider, sheet = self._providers[name], self._catalogue.provider(name)
        missing: tuple[Problem, ...] = ()
        answered, trouble = None, None
        if isinstance(provider, Keyed):
            missing = tuple(provider.unconfigured())
            if ask and not missing:
                try:
                    answered = provider.reach()
                except ProviderError as error:
                    trouble = error.problems[0]
        return Offer(
            name=name,
            title=sheet.title if sheet else name,
            hosted=isinstance(provider, Keyed),
            missing=missing,
            answered=answered,
            trouble=trouble,
            models=tuple(self._model(sheet, model) for model in sheet.models) if sheet else (),
            notes=tuple(against(sheet.model_copy(update={"models": ()}), "sft", "", self._today)) if sheet else (),
        )

    def _model(self, sheet: ProviderSheet, model: Model) -> Offered:
        methods: tuple[Method, ...] = tuple(
            name
            for name in METHODS
            if (said := model.methods.of(name)) is not None and said.value and sheet.data.of(name) is not None
        )
        found = against(sheet, methods[0] if methods else "sft", model.name, self._today)
        general = {problem.what for problem in against(sheet.model_copy(update={"models": ()}), "sft", "", self._today)}
        price = by_tokens(sheet, methods[0] if methods else "sft", model.name)
        return Offered(
            name=model.name,
            methods=methods,
            notes=tuple(problem.what for problem in found if problem.what not in general),
            open=not any(problem.level == "error" for problem in found),
            usd_per_million=str(price.usd) if price else None,
        )
