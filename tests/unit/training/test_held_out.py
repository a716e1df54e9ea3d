"""Held-out rows that do not fit together: asked in smaller groups, with the same loss, and training stays as it is."""

import json
import weakref
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch

from finetune.errors import TrainingError
from finetune.report import Reporter
from finetune.training import examples
from finetune.training.batches import Limits
from finetune.training.checkpoint import Checkpoints
from finetune.training.engine import Engine
from finetune.training.examples import ChatEncoder, Unit
from finetune.training.loop import Loop
from finetune.training.schedule import Steps
from finetune.training.stop import Stop
from tests.support import tiny
from tests.unit.training import test_dpo, test_engine
from tests.unit.training.test_engine import rows, stir
from tests.unit.training.test_ranks import Meeting, Threads, each
from tests.unit.training.test_schedule import training

ALL_AT_ONCE = Limits(10, 10_000)
#: How a method's engine is made, its units, and how many sequences each has.
METHODS = {"sft": (test_engine.engine, rows, 1), "dpo": (test_dpo.engine, test_dpo.pairs, 2)}


class Narrow:
    """The device's edge, where nothing is learned: runs out of memory for more sequences than `most` at once.

    Keeps the sizes of all groups that were asked, and of those that did not fit.
    """

    def __init__(self, made: Engine, most: int) -> None:
        self.most, self.asked, self.failed = most, list[int](), list[int]()
        made.model.register_forward_pre_hook(self, with_kwargs=True)

    def __call__(self, module: Any, args: Any, kwargs: Any) -> None:
        if module.training:
            return
        count = len(kwargs["input_ids"])
        self.asked.append(count)
        if count > self.most:
            self.failed.append(count)
            raise torch.OutOfMemoryError("out of memory")


@pytest.fixture(autouse=True)
def _deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def pair_of(method: str) -> tuple[Engine, Engine]:
    make, _, _ = METHODS[method]
    two = make(ALL_AT_ONCE), make(ALL_AT_ONCE)
    for made in two:
        stir(made)
    return two


@pytest.mark.parametrize("most", [1, 2, 3])
@pytest.mark.parametrize("method", METHODS)
def test_the_loss_is_the_same_in_smaller_groups(tmp_path: Path, method: str, most: int) -> None:
    _, units, sequences = METHODS[method]
    data = units(tmp_path)
    plain, narrow = pair_of(method)
    edge, said = Narrow(narrow, most * sequences), list[str]()
    wanted, found = plain.evaluate(data, say=pytest.fail), narrow.evaluate(data, say=said.append)
    assert found.loss == pytest.approx(wanted.loss, rel=1e-6)
    assert found.more == pytest.approx(wanted.more, abs=1e-5)
    assert found.tokens == wanted.tokens
    assert said == ["out of memory with held-out rows: fewer of them at once from now on; the loss is the same"]
    assert edge.failed[0] == len(data) * sequences
    # Nothing is asked a second time because something else did not fit.
    passes = 1 if method == "sft" else 2
    assert sum(edge.asked) - sum(edge.failed) == len(data) * sequences * passes


def test_later_evaluations_begin_with_what_fits_and_steps_stay_as_they_are(tmp_path: Path) -> None:
    data = rows(tmp_path)
    plain, narrow = pair_of("sft")
    edge = Narrow(narrow, 3)
    narrow.evaluate(data)
    edge.failed.clear()
    narrow.evaluate(data, say=pytest.fail)
    assert edge.failed == []
    assert narrow.limits == ALL_AT_ONCE
    for made in (plain, narrow):
        made.step(data, 0, 1e-2, lambda: None, pytest.fail)
    assert all(torch.equal(parameter, narrow.parameters[name]) for name, parameter in plain.parameters.items())


def test_short_ones_still_go_together_where_tokens_decide(tmp_path: Path) -> None:
    data = rows(tmp_path)
    longest = max(unit.longest for unit in data)
    _, narrow = pair_of("sft")
    sizes: list[tuple[int, ...]] = []

    def edge(_: Any, __: Any, kwargs: Any) -> None:
        shape = tuple(kwargs["input_ids"].shape)
        if shape[0] * shape[1] > 2 * longest + 1:
            raise torch.OutOfMemoryError("out of memory")
        sizes.append(shape)

    narrow.model.register_forward_pre_hook(edge, with_kwargs=True)
    narrow.evaluate(data)
    assert sizes[0] == (2, longest)
    assert max(count for count, _ in sizes) > 2


def test_a_bound_of_the_recipe_holds_as_well(tmp_path: Path) -> None:
    data = rows(tmp_path)
    made = test_engine.engine(Limits(3, None))
    edge = Narrow(made, 2)
    made.evaluate(data)
    assert max(edge.asked) == 3
    made.limits = Limits(1, None)
    edge.asked.clear()
    made.evaluate(data)
    assert edge.asked == [1] * len(data)
    fresh = test_engine.engine(Limits(10, 150))
    alike = Narrow(fresh, 10)
    fresh.evaluate(data)
    assert 1 < max(alike.asked) < len(data)


@pytest.mark.parametrize("method", METHODS)
def test_one_that_does_not_fit_alone_is_told(tmp_path: Path, method: str) -> None:
    _, units, sequences = METHODS[method]
    data = units(tmp_path)
    _, narrow = pair_of(method)
    edge = Narrow(narrow, 0)
    with pytest.raises(TrainingError) as told:
        narrow.evaluate(data, say=pytest.fail)
    (problem,) = told.value.problems
    assert problem.code == "E621"
    assert problem.what == f"out of memory with a single held-out example of up to {longest(data)} tokens"
    assert "one at a time already" in (problem.why or "")
    assert "max_seq_length" in problem.fix
    halved = [len(data)]
    while halved[-1] > 1:
        halved.append(halved[-1] // 2)
    assert edge.failed == [count * sequences for count in halved]


def longest(data: tuple[Unit, ...]) -> int:
    return max(unit.longest for unit in data)


@pytest.mark.parametrize("method", METHODS)
def test_what_failed_is_freed_before_the_next_try(tmp_path: Path, method: str) -> None:
    _, units, sequences = METHODS[method]
    _, narrow = pair_of(method)
    made: list[weakref.ref[Any]] = []
    left: list[int] = []

    def before(*_: Any) -> None:
        left.append(sum(each_made() is not None for each_made in made))

    def after(_: Any, __: Any, out: Any) -> None:
        if len(out.logits) > sequences:
            made.append(weakref.ref(out.logits))
            raise torch.OutOfMemoryError("out of memory")

    narrow.model.register_forward_pre_hook(before)
    narrow.model.register_forward_hook(after)
    narrow.evaluate(units(tmp_path))
    assert len(made) > 1
    assert set(left) == {0}


def test_other_errors_are_not_taken_for_memory(tmp_path: Path) -> None:
    made = test_engine.engine(ALL_AT_ONCE)
    made.model.register_forward_pre_hook(lambda *_: (_ for _ in ()).throw(RuntimeError("shape mismatch")))
    with pytest.raises(RuntimeError, match="shape"):
        made.evaluate(rows(tmp_path))


def of_two(make: Callable[..., Engine]) -> list[Engine]:
    meeting = Meeting(2)
    alike = [make(ALL_AT_ONCE) for _ in range(2)]
    made = []
    for rank, like in enumerate(alike):
        stir(like)
        ranks = Threads(rank, meeting)
        made.append(Engine(like.model, like._training, 3, 256, ALL_AT_ONCE, objective=like._objective, ranks=ranks))
    return made


@pytest.mark.parametrize("method", METHODS)
def test_of_several_processes_each_takes_what_fits_it_and_all_tell(tmp_path: Path, method: str) -> None:
    make, units, sequences = METHODS[method]
    data = units(tmp_path)
    alone, _ = pair_of(method)
    wanted = alone.evaluate(data)
    engines = of_two(make)
    edges = [Narrow(engines[0], 100), Narrow(engines[1], sequences)]
    said: list[str] = []
    for found in each(engines, lambda made: made.evaluate(data, say=said.append)):
        assert found.loss == pytest.approx(wanted.loss, rel=1e-6)
        assert found.tokens == wanted.tokens
    assert [bool(edge.failed) for edge in edges] == [False, True]
    assert len(said) == 2, "whichever of them writes the report"
    edges[1].most = 0
    for result in each(engines, lambda made: made.evaluate(data, say=said.append)):
        assert isinstance(result, TrainingError)
        assert result.problems[0].code == "E621"
    assert len(said) == 2


def test_a_training_goes_on_and_its_log_says_so_once(tmp_path: Path) -> None:
    path = tiny.write_rows(tmp_path / "d.jsonl", [tiny.messages(chat) for chat in tiny.CHATS])
    data = examples.load(path, ChatEncoder(tiny.tokenizer()), 256, pytest.fail)
    reports = {}
    for name in ("plain", "narrow"):
        asked = training(epochs=3)
        made = test_engine.engine(ALL_AT_ONCE)
        stir(made)
        if name == "narrow":
            Narrow(made, 2)
        report = tmp_path / f"{name}.jsonl"
        with closing(Reporter(report)) as reporter:
            Loop(
                engine=made,
                checkpoints=Checkpoints(tmp_path / name, {}),
                steps=Steps(len(data.rows), 3, asked),
                train=data,
                validation=data,
                checkpoint_every=None,
                reporter=reporter,
                stop=Stop(),
                clock=lambda: 0.0,
            ).run()
        reports[name] = [json.loads(line) for line in report.read_text().splitlines()]
    losses = {name: evaluated(lines) for name, lines in reports.items()}
    assert len(losses["plain"]) == 3
    assert losses["narrow"] == pytest.approx(losses["plain"], rel=1e-6)
    assert "out of memory" not in json.dumps(reports["plain"])
    assert json.dumps(reports["narrow"]).count("out of memory with held-out rows") == 1


def evaluated(lines: list[dict[str, Any]]) -> list[float]:
    return [line["values"]["eval_loss"] for line in lines if "eval_loss" in line.get("values", {})]
