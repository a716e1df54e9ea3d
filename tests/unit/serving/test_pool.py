import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from finetune.errors import ServingError
from finetune.ports import Served
from finetune.serving.adapters import read_adapter
from finetune.serving.asks import fault
from finetune.serving.pool import Pool


class Engine:
    def __init__(self, base: str, loaded: Any) -> None:
        self.base = base
        self.calls: list[tuple[str, ...]] = []

    def load_adapter(self, adapter_id: str, path: Path, digest: str | None = None) -> None:
        self.calls.append(("load", adapter_id, str(path)))

    def unload_adapter(self, adapter_id: str) -> bool:
        self.calls.append(("unload", adapter_id))
        return True

    def generate(self, ask: Any, adapter_id: str | None) -> Any:
        return (self.base, adapter_id)

    def chat(self, adapter_id: str | None) -> Any:
        return (self.base, adapter_id)

    def fits(self, messages: Any, adapter_id: str | None, max_tokens: int) -> bool:
        return True

    def answers(self, prompts: Any, adapter_id: str | None, max_tokens: int) -> list[str]:
        return []


def served(name: str, base: str, adapter: str | None = None) -> Served:
    return Served(
        id=name,
        base_model=base,
        adapter=Path(adapter) if adapter else None,
        created_at=datetime(2026, 11, 1, tzinfo=UTC),
    )


class Loader:
    def __init__(self) -> None:
        self.loads: list[str] = []
        self.at_once = 0
        self.most_at_once = 0
        self._lock = threading.Lock()

    def __call__(self, base: str, progress: Any) -> Any:
        with self._lock:
            self.loads.append(base)
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        progress(f"loading {base}")
        with self._lock:
            self.at_once -= 1
        if base == "broken":
            raise OSError("no file\nmore")
        return object()


def test_a_base_is_loaded_once_and_the_longest_unused_goes() -> None:
    loader, lines = Loader(), []
    pool = Pool(loader, max_bases=2, make=Engine, progress=lines.append)
    first = pool.engine("a")
    pool.engine("b")
    assert pool.engine("a") is first
    pool.engine("c")
    assert pool.bases == ["a", "c"]
    assert loader.loads == ["a", "b", "c"]
    assert "let go of b to make room" in lines
    pool.engine("b")
    assert pool.bases == ["c", "b"]


def test_many_threads_load_one_base_once_and_one_at_a_time() -> None:
    loader = Loader()
    pool = Pool(loader, max_bases=3, make=Engine)
    with ThreadPoolExecutor(8) as threads:
        engines = list(threads.map(pool.engine, ["a", "b", "c"] * 8))
    assert len({id(engine) for engine in engines}) == 3
    assert sorted(loader.loads) == ["a", "b", "c"]
    assert loader.most_at_once == 1


def test_a_load_that_fails_says_why_and_is_tried_again() -> None:
    loader = Loader()
    pool = Pool(loader, make=Engine)
    for _ in range(2):
        with pytest.raises(ServingError) as caught:
            pool.engine("broken")
        assert caught.value.problems[0].code == "E758"
        assert caught.value.problems[0].why == "no file"
    assert loader.loads == ["broken", "broken"]


def test_each_model_is_asked_by_its_own_id() -> None:
    pool = Pool(Loader(), make=Engine)
    tuned, base = served("bot@v1", "a", "/x"), served("a", "a")
    assert pool.generate(tuned, None) == ("a", "bot@v1")  # type: ignore[arg-type]
    assert pool.generate(base, None) == ("a", None)  # type: ignore[arg-type]
    assert pool.chat(tuned) == ("a", "bot@v1")
    assert pool.unload(tuned)
    assert not pool.unload(base)
    assert not pool.unload(served("x", "other", "/x"))
    engine = pool.engine("a")
    assert isinstance(engine, Engine)
    assert engine.calls == [("load", "bot@v1", "/x"), ("load", "bot@v1", "/x"), ("unload", "bot@v1")]


def test_an_adapter_that_is_gone_is_told_by_the_models_name(tmp_path: Path) -> None:
    class Reads(Engine):
        def load_adapter(self, adapter_id: str, path: Path, digest: str | None = None) -> None:
            read_adapter(path)

    gone = tmp_path / "gone"
    with pytest.raises(ServingError) as caught:
        Pool(Loader(), make=Reads).ready(served("bot@v1", "a", str(gone)))
    what, why, fix = str(caught.value).splitlines()
    assert what == f"error E751: the adapter of bot@v1 is not in its folder {gone}"
    assert "adapter_config.json" in why
    assert "`ft submit RECIPE --force` trains it again" in fix


def test_other_faults_of_an_adapter_stay_what_they_are() -> None:
    class Refuses(Engine):
        def load_adapter(self, adapter_id: str, path: Path, digest: str | None = None) -> None:
            raise fault("E750", "does not fit")

    with pytest.raises(ServingError, match="E750: does not fit"):
        Pool(Loader(), make=Refuses).ready(served("bot@v1", "a", "/x"))


def test_the_server_is_imported_without_torch() -> None:
    code = (
        "import sys, finetune.serving.server, finetune.serving.run, finetune.serving.pool\n"
        "assert not {'torch', 'transformers', 'peft'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
