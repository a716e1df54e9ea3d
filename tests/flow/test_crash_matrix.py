"""A seeded sample of the crash matrix; `make crash-matrix` plays all of it and writes docs/crash-matrix.md."""

import pytest

from tests.support import matrix
from tests.support.matrix import CELLS, LAGS

_SEED = 4
_COUNT = 20
#: What the matrix is for: always played.
_ALWAYS = [
    *(cell for cell in CELLS.values() if cell.provider == "openai" and cell.crash),
    *(cell for cell in CELLS.values() if any(words in cell.what for words in LAGS)),
]
_CELLS = {cell.id: cell for cell in (*_ALWAYS, *matrix.sample(_COUNT, _SEED))}


@pytest.mark.parametrize("cell", _CELLS.values(), ids=_CELLS)
def test_exactly_one_job_is_left_and_it_is_ours(cell, tmp_path):
    outcome = matrix.run(cell, tmp_path)

    assert outcome.right, outcome.text
