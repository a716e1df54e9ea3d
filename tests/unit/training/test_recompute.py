"""Activations made again for the backward pass: the same bits, less held, and switched on when memory runs out."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from finetune.errors import TrainingError
from finetune.training import recompute, request, trainer
from finetune.training.bases import Loaded
from finetune.training.batches import Limits
from finetune.training.checkpoint import Checkpoints
from finetune.training.engine import Engine
from finetune.training.examples import Unit
from finetune.training.request import Lora
from tests.support import tiny
from tests.unit.training import test_dpo, test_engine
from tests.unit.training.test_engine import ALL, rows, stir
from tests.unit.training.test_ranks import Meeting, Threads, each

DROPPING = replace(ALL, dropout=0.1)
FEW = Limits(3, None)
Make = Callable[..., Engine]
#: How a method's engine is made, and its units.
METHODS = {"sft": (test_engine.engine, rows), "dpo": (test_dpo.engine, test_dpo.pairs)}


@pytest.fixture(autouse=True)
def _deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@contextmanager
def room_for(count: int) -> Iterator[list[int]]:
    """Runs out of memory, as the device's edge would, as soon as forward passes keep more numbers than that.

    Gives the numbers that were kept when one began to be, and each time it ran out.
    """
    kept: dict[int, int] = {}
    most = [0]

    def pack(tensor: Tensor) -> Tensor:
        if not isinstance(tensor, torch.nn.Parameter):
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes() // tensor.itemsize
        most[0] = max(most[0], sum(kept.values()))
        if sum(kept.values()) > count:
            kept.clear()
            raise torch.OutOfMemoryError("out of memory")
        return tensor

    def unpack(tensor: Tensor) -> Tensor:
        # The backward pass has begun: nothing more is kept for it.
        kept.clear()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        yield most


def longest_alone(make: Make, units: tuple[Unit, ...], tmp_path: Path, again: bool) -> int:
    """Numbers that are kept of the longest unit."""
    made = make(Limits(1, None, again))
    made.model.train()
    with room_for(2**40) as most:
        made.gradients([max(units, key=lambda unit: unit.longest)], 0)
    return most[0]


@pytest.mark.parametrize("lora", [ALL, DROPPING], ids=["no dropout", "dropout"])
@pytest.mark.parametrize("method", METHODS)
def test_loss_and_gradients_keep_their_bits(tmp_path: Path, method: str, lora: Lora) -> None:
    make, units = METHODS[method]
    kept, again = make(FEW, lora), make(replace(FEW, recompute=True), lora)
    measured, gradients = [], []
    for made in (kept, again):
        stir(made)
        made.model.train()
        measured.append(made.gradients(units(tmp_path), 4))
        gradients.append({name: parameter.grad for name, parameter in made.parameters.items()})
    assert measured[0] == measured[1]
    for name, gradient in gradients[0].items():
        assert gradient.abs().max() > 0, name
        assert torch.equal(gradient, gradients[1][name]), name


@pytest.mark.parametrize("method", METHODS)
def test_far_less_is_kept(tmp_path: Path, method: str) -> None:
    make, units = METHODS[method]
    kept, again = (longest_alone(make, units(tmp_path), tmp_path, on) for on in (False, True))
    assert again < kept / 2


def settled(made: Engine, data: tuple[Unit, ...], steps: range, say: Callable[[str], None] = pytest.fail) -> None:
    for step in steps:
        made.step(data, step, 1e-2, lambda: None, say)


def same(one: Engine, other: Engine) -> bool:
    return all(torch.equal(parameter, other.parameters[name]) for name, parameter in one.parameters.items())


@pytest.mark.parametrize("method", METHODS)
def test_where_one_does_not_fit_it_trains_on_by_making_them_again(tmp_path: Path, method: str) -> None:
    make, units = METHODS[method]
    data = units(tmp_path)
    alone, again = (longest_alone(make, data, tmp_path, on) for on in (False, True))
    first, said = Limits(8, 10_000), list[str]()
    made = make(first, DROPPING)
    stir(made)
    with room_for((alone + again) // 2):
        settled(made, data, range(2), said.append)
    assert made.limits.recompute is True
    assert made.limits.tokens == 10_000
    assert made.limits.rows > 1, "many fit again"
    switched = [message for message in said if "single example" in message]
    assert [said.index(message) for message in switched] == [3], "after micro-batches of 4, 2 and 1"
    assert "about half as long again; the mathematics is the same" in switched[0]
    assert said[4] == "out of memory: micro-batches of at most 4 examples from now on; the mathematics is the same"
    plain = make(made.limits, DROPPING)
    stir(plain)
    settled(plain, data, range(2))
    assert same(made, plain), "nothing of the failed tries is left"


@pytest.mark.parametrize(
    ("first", "fault"),
    [
        (Limits(4, None), "activations are made again already"),
        (Limits(4, None, True), "activations are made again already"),
        (Limits(4, None, False), r"gradient_checkpointing is false(?s:.)*write local: {gradient_checkpointing: auto}"),
    ],
    ids=str,
)
def test_where_nothing_helps_it_says_what_it_has_done(tmp_path: Path, first: Limits, fault: str) -> None:
    made = test_engine.engine(first)
    with room_for(1000), pytest.raises(TrainingError, match=rf"(?s)E621.*{fault}"):
        settled(made, rows(tmp_path), range(1), lambda _: None)
    assert made.model.get_base_model().is_activation_checkpointing is (first.recompute is not False)


def test_a_base_model_that_cannot_is_told_at_once(tmp_path: Path) -> None:
    made, said = test_engine.engine(Limits(2, None)), list[str]()
    made.model.get_base_model().supports_gradient_checkpointing = False
    assert not recompute.possible(made.model)
    with room_for(1000), pytest.raises(TrainingError, match=r"(?s)E621.*has to keep its activations"):
        settled(made, rows(tmp_path), range(1), said.append)
    assert len(said) == 1, "one row at a time, and then the end"


def test_a_checkpoint_keeps_that_it_is_on(tmp_path: Path) -> None:
    data = rows(tmp_path)
    alone, again = (longest_alone(test_engine.engine, data, tmp_path, on) for on in (False, True))
    whole = test_engine.engine(Limits(8, None), DROPPING)
    with room_for((alone + again) // 2):
        settled(whole, data, range(2), lambda _: None)
        Checkpoints(tmp_path / "c", {}).save(whole, 2)
        settled(whole, data, range(2, 4))
        resumed = test_engine.engine(Limits(8, None), DROPPING)
        assert Checkpoints(tmp_path / "c", {}).resume(resumed, pytest.fail) == 2
        assert resumed.limits == whole.limits
        settled(resumed, data, range(2, 4))
    assert same(whole, resumed)


def test_a_checkpoint_of_before_there_was_such_a_thing_is_resumed(tmp_path: Path) -> None:
    Checkpoints(tmp_path / "c", {}).save(test_engine.engine(FEW), 1)
    manifest = next((tmp_path / "c").iterdir()) / "manifest.json"
    text = manifest.read_text()
    assert text.count('"recompute": null') == 1
    manifest.write_text(re.sub(r',\s*"recompute": null|"recompute": null,', "", text))
    made = test_engine.engine(Limits(8, None))
    assert Checkpoints(tmp_path / "c", {}).resume(made, pytest.fail) == 1
    assert made.limits == FEW


def test_a_lack_of_memory_while_they_are_made_again_starts_the_step_over(tmp_path: Path) -> None:
    data = rows(tmp_path)
    made, plain = (test_engine.engine(Limits(most, None, True), DROPPING) for most in (8, 2))
    backward = [False]
    made.model.register_forward_pre_hook(lambda *_: backward.__setitem__(0, False))
    made.model.register_forward_hook(lambda *_: backward.__setitem__(0, True))

    def edge(_: Any, args: tuple[Tensor, ...]) -> None:
        if backward[0] and len(args[0]) > 2:
            raise torch.OutOfMemoryError("out of memory")

    made.model.get_base_model().model.layers[1].mlp.register_forward_pre_hook(edge)
    said: list[str] = []
    for each_made, say in ((made, said.append), (plain, pytest.fail)):
        stir(each_made)
        settled(each_made, data, range(2), say)
    assert len(said) == 2
    assert made.limits == Limits(2, None, True)
    assert same(made, plain)


def test_all_processes_switch_together(tmp_path: Path) -> None:
    data, meeting = rows(tmp_path), Meeting(2)
    engines = [
        Engine(like.model, like._training, 3, 256, Limits(2, None), ranks=Threads(rank, meeting))
        for rank, like in enumerate(test_engine.engine(FEW) for _ in range(2))
    ]

    def edge(module: Any, *_: Any) -> None:
        if not module.get_base_model().is_activation_checkpointing:
            raise torch.OutOfMemoryError("out of memory")

    engines[1].model.register_forward_pre_hook(edge)
    said: list[str] = []
    results = each(engines, lambda made: made.step(data, 0, 1e-2, lambda: None, said.append))
    assert results[0] == results[1]
    assert [made.limits for made in engines] == [Limits(2, None, True)] * 2
    assert [made.model.get_base_model().is_activation_checkpointing for made in engines] == [True] * 2
    assert len(said) == 4
    assert same(*engines)


def test_what_the_recipe_asks_for_is_what_the_model_does(tmp_path: Path) -> None:
    reporter_said: list[str] = []
    for wanted, able, expected in (("auto", True, None), (True, True, True), (False, True, False), (True, False, None)):
        tiny.request(tmp_path, "b", local__gradient_checkpointing=wanted)
        model = tiny.model()
        model.supports_gradient_checkpointing = able
        loaded = Loaded(model=model, tokenizer=None, source="b")
        asked = request.read(tmp_path / "request.json")
        assert trainer.limits(asked, loaded, reporter_said.append) == Limits(3, None, expected)
    assert reporter_said == ["this base model cannot make its activations again: they are kept"]
