"""The trainer's stages are where the spans look for them, and a trainer that is not traced is left alone."""

from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

from finetune.training import stages, trainer
from tests.support.collector import Collector


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    with Collector() as found:
        for name, value in found.env.items():
            monkeypatch.setenv(name, value)
        yield found


def test_every_stage_is_one_of_the_trainers() -> None:
    for place in stages.STAGES:
        owner, name = stages.found(trainer, place)
        assert callable(getattr(owner, name))


def made(error: Exception | None = None) -> Any:
    """A trainer of the same shape that does nothing."""
    module: Any = ModuleType("trainer")
    module.bases, module.adapter = ModuleType("bases"), ModuleType("adapter")
    module.bases.load = lambda: None

    class Loop:
        steps = type("Steps", (), {"total": 12})

        def run(self) -> None:
            if error:
                raise error

    def train(result: dict[str, object]) -> dict[str, object]:
        module.bases.load()
        module._read_data()
        module.Loop().run()
        module.adapter.write()
        return result

    module.Loop, module._read_data, module.adapter.write, module.train = Loop, module.bases.load, lambda: None, train
    return module


def test_each_stage_is_a_span_below_the_workers(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACEPARENT", f"00-{'a' * 32}-{'b' * 16}-01")
    assert stages.train(made(), {"path": "p"}) == {"path": "p"}
    top = collector.one("trainer")
    assert (top.trace, top.parent) == ("a" * 32, "b" * 16)
    assert [span.name for span in collector.spans if span.parent == top.id] == [
        *("load base", "read data", "train", "write adapter")
    ]
    assert collector.one("train").attributes == {"ft.steps": 12}


def test_what_ends_a_training_is_told_by_its_stage(collector: Collector) -> None:
    with pytest.raises(MemoryError):
        stages.train(made(MemoryError("planted")), {})
    assert [(span.name, span.error) for span in collector.spans if span.error] == [
        ("train", "MemoryError"),
        ("trainer", "MemoryError"),
    ]
    assert collector.named("write adapter") == []


def test_untraced_nothing_is_replaced() -> None:
    module = made()
    seen: list[Any] = []
    module._read_data = lambda: seen.append(module.bases.load)
    plain = module.bases.load
    assert stages.train(module, {}) == {}
    assert seen == [plain]
