"""What is shown of the reading of data that takes long."""

import time
from collections.abc import Iterator

import pytest

from finetune.cli.reading import Reading


@pytest.mark.parametrize(
    ("read", "total", "says"),
    [
        (300, 1200, "300 B of 1 kB, 25 %"),
        (41_000, 82_000, "41 kB of 82 kB, 50 %"),
        (999_999, 1_500_000, "999 kB of 1.5 MB, 66 %"),
        (5_000_000, 2_500_000_000, "5.0 MB of 2,500 MB, 0 %"),
        (9_999_999, 12_345_678, "9.9 MB of 12 MB, 80 %"),
        (12_345_678, None, "12 MB"),
        (0, None, "0 B"),
    ],
)
def test_no_amount_is_told_as_nothing(
    read: int, total: int | None, says: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def minutes() -> Iterator[float]:
        yield from range(0, 6000, 60)

    passing = minutes()
    monkeypatch.setattr(time, "monotonic", lambda: next(passing))
    with Reading() as reading:
        reading.show(read, total)
    assert capsys.readouterr().err == f"reading data: {says}\n"
