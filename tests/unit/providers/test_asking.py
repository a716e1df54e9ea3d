"""What answers mean: refusals by the API itself, pages of somebody between, and how long to be quiet."""

import re
from datetime import UTC, datetime

import pytest

from finetune.errors import OutcomeUnknown, ProviderError, ProviderUnavailable
from finetune.providers.asking import Answer, Listener, Manners
from finetune.providers.pace import LONGEST_S
from finetune.testing import ManualClock


@pytest.fixture
def listener():
    manners = Manners(exhausted=re.compile("quota"), request_ids=("x-request-id",), words=lambda text: text)
    return Listener("Acme", ManualClock(datetime(2027, 1, 1, tzinfo=UTC)), manners, secrets=("k",), per_s=10.0)


@pytest.mark.parametrize("status", [404, 405, 410])
def test_only_the_api_itself_says_that_something_is_gone(listener, status):
    """A proxy's page must not end a training that goes on, and bills."""
    for text in ("<html>Not Found</html>", "", "[]", '"gone"'):
        error = listener.refusal("look at the job", Answer(status, {}, text))
        assert type(error) is ProviderUnavailable, text
        assert type(listener.refusal("create the job", Answer(status, {}, text), creating=True)) is OutcomeUnknown
    said = listener.refusal("look at the job", Answer(status, {}, '{"message": "no such job"}'))
    assert isinstance(said, ProviderError)
    assert not said.retry


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("7", 7.0),
        ("-3", 0.0),
        ("inf", LONGEST_S),
        ("99999999999", LONGEST_S),
        ("nan", None),
        ("soon", None),
        ("Fri, 01 Jan 2027 00:00:30 GMT", 30.0),
        ("Fri, 01 Jan 2027 00:00:30 -0000", 30.0),
        ("Thu, 31 Dec 2026 00:00:00 GMT", 0.0),
    ],
)
def test_how_long_it_wants_silence(listener, said, seconds):
    error = listener.refusal("look", Answer(503, {"retry-after": said}, "{}"))
    assert error.after_s == seconds
