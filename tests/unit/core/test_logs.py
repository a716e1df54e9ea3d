"""Log lines for machines."""

import io
import json
import logging
import sys
import threading
import warnings
from datetime import UTC, datetime

import pytest

from finetune.errors import UsageError
from finetune.logs import JsonLines, about, to_json
from finetune.settings import from_environment

AT = datetime(2026, 11, 24, 17, 2, 27, 123000, tzinfo=UTC)


@pytest.fixture
def root():
    """The root logger, as it was before when the test is over."""
    logger = logging.getLogger()
    before = logger.handlers[:], logger.level
    yield logger
    logging.captureWarnings(False)
    logger.handlers[:], logger.level = before


@pytest.fixture
def lines(root, monkeypatch):
    """What was logged since, as objects."""
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    to_json()
    return lambda: [json.loads(line) for line in stream.getvalue().splitlines()]


def record(message, *args, level=logging.INFO, **more):
    made = logging.LogRecord("ft.worker", level, __file__, 1, message, args, None)
    made.created = AT.timestamp()
    vars(made).update(more)
    return made


def test_a_line_has_these_keys_and_no_others():
    assert json.loads(JsonLines().format(record("%s is %s", "ft_1", "running"))) == {
        "time": "2026-11-24T17:02:27.123+00:00",
        "level": "INFO",
        "logger": "ft.worker",
        "message": "ft_1 is running",
    }


@pytest.mark.parametrize("odd", ['a "b"', "two\nlines", "\u2028", "größe", "\x1b[31m", "\ud800"])
def test_whatever_the_message_holds_it_is_one_line_of_ascii(odd):
    text = JsonLines().format(record("%s", odd))
    assert text.isascii()
    assert len(text.splitlines()) == 1
    assert json.loads(text)["message"] == odd


def test_an_exception_is_told_with_its_traceback():
    try:
        raise ValueError("it broke")
    except ValueError:
        line = json.loads(JsonLines().format(record("failed", exc_info=sys.exc_info())))
    assert line["exception"].startswith("Traceback")
    assert line["exception"].endswith("ValueError: it broke")


def test_what_a_line_is_about(lines):
    log = logging.getLogger("some.library")
    with about(job_id="ft_1"):
        log.warning("one")
        with about(run_key="ft_1-a1"):
            log.warning("two")
        log.warning("three", extra={"job_id": "ft_2", "run_key": None})
    log.warning("four")
    assert [(line["message"], line.get("job_id"), line.get("run_key")) for line in lines()] == [
        ("one", "ft_1", None),
        ("two", "ft_1", "ft_1-a1"),
        ("three", "ft_2", None),
        ("four", None, None),
    ]


def test_threads_do_not_mix_what_they_are_at(lines):
    met = threading.Barrier(2)

    def step(job_id):
        with about(job_id=job_id):
            met.wait(10)
            logging.getLogger("x").warning(job_id)

    threads = [threading.Thread(target=step, args=(job_id,)) for job_id in ("ft_1", "ft_2")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted((line["message"], line["job_id"]) for line in lines()) == [("ft_1", "ft_1"), ("ft_2", "ft_2")]


def test_of_libraries_only_what_went_wrong_and_warnings_of_python_too(lines):
    logging.getLogger("some.library").info("chatter")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old", DeprecationWarning, stacklevel=1)
    (line,) = lines()
    assert (line["logger"], line["level"]) == ("py.warnings", "WARNING")
    assert "DeprecationWarning: old" in line["message"]


def test_the_setting():
    assert from_environment({"FT_HOME": "ft"}).log_format == "text"
    assert from_environment({"FT_HOME": "ft", "FT_LOG_FORMAT": "json"}).log_format == "json"
    with pytest.raises(UsageError, match="FT_LOG_FORMAT is 'yaml'"):
        from_environment({"FT_HOME": "ft", "FT_LOG_FORMAT": "yaml"})
