"""Reads places with rows the way a caller does, and checks on the way what every caller may rely on."""

import json
import pickle
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from finetune.data.sources import Block, Place, blocks, places
from finetune.errors import Problem

MIB = 1024 * 1024


@dataclass
class Read:
    """What came from a spec."""

    places: list[Place] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    @property
    def rows(self) -> list[Any]:
        """All rows, parsed."""
        return [json.loads(row) for row in self.raw]

    @property
    def raw(self) -> list[bytes]:
        """All rows as they came."""
        return [row for block in self.blocks for row in block.rows]

    @property
    def numbers(self) -> list[int]:
        """The number of each row."""
        return [number for block in self.blocks for number in block.numbers]

    @property
    def files(self) -> list[str]:
        """The names of the places."""
        return [place.file for place in self.places]

    @property
    def faults(self) -> list[tuple[str, int | None]]:
        """Code and line of each problem that is no warning."""
        return [(each.code, each.line) for each in self.problems if each.level == "error"]

    @property
    def warnings(self) -> list[str]:
        """The codes of the warnings."""
        return [each.code for each in self.problems if each.level == "warning"]

    @property
    def fault(self) -> Problem:
        """The one problem that is no warning."""
        (fault,) = [each for each in self.problems if each.level == "error"]
        return fault


def read(spec: str, folder: Path, *, fetch: bool = False, target_bytes: int = 4 * MIB) -> Read:
    """Everything at `spec`. Asserts what holds for every place, however broken it is."""
    out = Read()
    out.places = places(spec, folder, fetch=fetch, found=out.problems.append)
    for place in out.places:
        of_place = list(blocks(pickle.loads(pickle.dumps(place)), out.problems.append, target_bytes=target_bytes))
        assert place.size is None or sum(block.read for block in of_place) <= place.size
        for block in of_place:
            _check_block(block, place, target_bytes)
        out.blocks += of_place
    for problem in out.problems:
        check_problem(problem)
    return out


def check_problem(problem: Problem) -> None:
    """Assert that a problem is said as the house says them, and can be printed."""
    text = "\n".join(problem.lines())
    assert text.encode()
    assert all(line.isprintable() for line in problem.lines())
    assert problem.what
    assert not problem.what.endswith(".")
    assert not problem.what[0].isupper(), text
    assert problem.fix
    assert not any(each.endswith(".") and not each.endswith("...") for each in (problem.why, problem.fix)), text
    assert problem.file


def _check_block(block: Block, place: Place, target_bytes: int) -> None:
    assert block.file == place.file
    assert block.rows
    assert len(block.numbers) == len(block.rows)
    assert pickle.loads(pickle.dumps(block)) == block
    assert block.read >= 0
    longest = max(map(len, block.rows))
    assert sum(map(len, block.rows)) <= target_bytes + longest
    for row in block.rows:
        row.decode("utf-8")
        assert row.strip() == row or b"\n" not in row[-1:]
