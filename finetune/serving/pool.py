"""Base models in memory: loaded when first asked for, one at a time, the longest unused one let go."""

import gc
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

from finetune.errors import FtError, ServingError, StateError
from finetune.ports import BaseLoader, Chat, LoadedBase, Served
from finetune.serving.asks import Ask, BaseEngine, EngineMaker, Generation, fault


def _torch_engine(base_name: str, loaded: LoadedBase) -> BaseEngine:
    # Not at the top: this is the line that brings torch, transformers and peft.
    from finetune.serving.engine import Engine

    return Engine(base_name, loaded)


class Pool:
    """Engines by base model, at most `max_bases` (>= 1) of them. Safe to use from several threads.

    A base that is let go while it answers lives on until that answer ends, so memory can hold one more for so
    long. `progress` gets plain lines while a base loads.
    """

    def __init__(
        self,
        loader: BaseLoader,
        *,
        max_bases: int = 2,
        progress: Callable[[str], None] = lambda line: None,
        make: EngineMaker = _torch_engine,
        fetch: Callable[[str, str, Path], None] | None = None,
    ) -> None:
        """`fetch(address, digest, folder)` gets an adapter that is missing here (`shelf.Adapters.fetch`)."""
        self._loader, self._fetch = loader, fetch
        self._max_bases = max_bases
        self._progress = progress
        self._make = make
        self._engines: OrderedDict[str, BaseEngine] = OrderedDict()
        self._lock = threading.Lock()
        self._loading = threading.Lock()

    @property
    def bases(self) -> list[str]:
        """Names of the base models in memory, longest unused first."""
        with self._lock:
            return list(self._engines)

    def engine(self, base: str) -> BaseEngine:
        """The engine of this base. Blocks while it loads, minutes for a large one. Raises ServingError E758."""
        found = self._known(base)
        if found is not None:
            return found
        with self._loading:
            # Another thread may have loaded it while this one waited.
            found = self._known(base)
            if found is not None:
                return found
            self._make_room()
            made = self._load(base)
            with self._lock:
                self._engines[base] = made
            return made

    def ready(self, served: Served) -> BaseEngine:
        """The engine with the model's adapter in it, fetched first where it is missing and known to be elsewhere.

        Raises ServingError: what `Engine.load_adapter` raises, E758, what the fetching raises (E512, E513, E838).
        """
        engine = self.engine(served.base_model)
        if served.adapter is not None:
            try:
                self._load_adapter(engine, served, served.adapter)
            except ServingError as exc:
                if exc.problems[0].code != "E751":
                    raise
                raise _no_adapter(served, exc.problems[0].why) from exc.__cause__
        return engine

    def _load_adapter(self, engine: BaseEngine, served: Served, folder: Path) -> None:
        """Load it. One that is in memory needs neither its folder nor the bucket."""
        try:
            engine.load_adapter(served.id, folder, served.digest)
        except ServingError:
            if self._fetch is None or served.uri is None or served.digest is None or folder.exists():
                raise
            self._progress(f"fetching {served.id} from {served.uri}")
            try:
                self._fetch(served.uri, served.digest, folder)
            except StateError as error:
                raise ServingError(*error.problems) from error
            engine.load_adapter(served.id, folder, served.digest)

    def generate(self, served: Served, ask: Ask) -> Generation:
        """Begin an answer of exactly this model. Raises as `ready` and `Engine.generate` do."""
        return self.ready(served).generate(ask, adapter_id(served))

    def chat(self, served: Served) -> Chat:
        """This model as something to chat with. Raises as `ready` does."""
        return self.ready(served).chat(adapter_id(served))

    def unload(self, served: Served) -> bool:
        """Take the model's adapter out of memory; False when it was in none. The base stays."""
        with self._lock:
            engine = self._engines.get(served.base_model)
        return engine is not None and served.adapter is not None and engine.unload_adapter(served.id)

    def _known(self, base: str) -> BaseEngine | None:
        with self._lock:
            if base in self._engines:
                self._engines.move_to_end(base)
            return self._engines.get(base)

    def _make_room(self) -> None:
        """Before the load, so that memory never holds one base too many."""
        with self._lock:
            let_go = [self._engines.popitem(last=False) for _ in range(len(self._engines) - self._max_bases + 1)]
        if let_go:
            self._progress(f"let go of {', '.join(name for name, _ in let_go)} to make room")
            let_go.clear()
            # Models hold themselves in cycles: without this their memory is freed at some later time.
            gc.collect()

    def _load(self, base: str) -> BaseEngine:
        try:
            return self._make(base, self._loader(base, self._progress))
        except FtError:
            raise
        except (OSError, RuntimeError, ValueError, KeyError, ImportError, MemoryError) as exc:
            raise fault(
                "E758",
                f"the base model {base} cannot be loaded",
                (str(exc) or type(exc).__name__).partition("\n")[0],
                "see that its files are complete and that memory is free",
            ) from exc


def _no_adapter(served: Served, why: str) -> ServingError:
    """E751 as users of a model need it: they know its name, not its folder."""
    return fault(
        "E751",
        f"the adapter of {served.id} is not in its folder {served.adapter}",
        why,
        "`ft submit RECIPE --force` trains it again; one that was loaded at run time: give the folder that the "
        "training wrote",
    )


def adapter_id(served: Served) -> str | None:
    """The id by which an engine knows the model; None for the base itself."""
    return None if served.adapter is None else served.id
