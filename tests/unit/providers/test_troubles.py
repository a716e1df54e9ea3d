"""What refusals and silences mean, and that no secret is in any of it."""

import itertools
import pickle

import pytest

from finetune.errors import AuthenticationFailed, OutcomeUnknown, ProviderError, ProviderUnavailable
from finetune.providers.troubles import Troubles

SECRET = "sandbox-SECRET0123456789"
DOING = "create the job"


@pytest.fixture
def troubles():
    return Troubles("Vendor", (SECRET,))


#: Status, what it means for a read, for a create, and the code of each.
TABLE = [
    (307, ProviderError, "E407", ProviderError, "E407"),
    (400, ProviderError, "E407", ProviderError, "E407"),
    (401, AuthenticationFailed, "E405", AuthenticationFailed, "E405"),
    (402, ProviderError, "E407", ProviderError, "E407"),
    (403, AuthenticationFailed, "E405", AuthenticationFailed, "E405"),
    # What a create names and is not there is a fault of the recipe.
    (404, ProviderError, "E402", ProviderError, "E407"),
    (405, ProviderError, "E407", ProviderError, "E407"),
    (408, ProviderUnavailable, "E403", OutcomeUnknown, "E403"),
    (409, ProviderUnavailable, "E403", OutcomeUnknown, "E403"),
    (410, ProviderError, "E406", ProviderError, "E406"),
    (413, ProviderError, "E407", ProviderError, "E407"),
    (422, ProviderError, "E407", ProviderError, "E407"),
    (425, ProviderUnavailable, "E403", OutcomeUnknown, "E403"),
    (429, ProviderUnavailable, "E410", ProviderUnavailable, "E410"),
    (500, ProviderUnavailable, "E403", OutcomeUnknown, "E403"),
    (501, ProviderError, "E407", ProviderError, "E407"),
    (502, ProviderUnavailable, "E403", OutcomeUnknown, "E403"),
    (503, ProviderUnavailable, "E403", OutcomeUnknown, "E403"),
    (504, ProviderUnavailable, "E403", OutcomeUnknown, "E403"),
    (505, ProviderError, "E407", ProviderError, "E407"),
    # Of what stands before many an API.
    (520, ProviderUnavailable, "E403", OutcomeUnknown, "E403"),
    (521, ProviderUnavailable, "E403", OutcomeUnknown, "E403"),
    (523, ProviderUnavailable, "E403", OutcomeUnknown, "E403"),
    (530, ProviderUnavailable, "E403", OutcomeUnknown, "E403"),
]


@pytest.mark.parametrize(("status", "read", "read_code", "create", "create_code"), TABLE)
def test_what_a_status_means(troubles, status, read, read_code, create, create_code):
    for creating, kind, code in ((False, read, read_code), (True, create, create_code)):
        error = troubles.refused(DOING, status, "its words", creating=creating, request_id="req_1")
        (problem,) = error.problems
        assert (type(error), problem.code) == (kind, code)
        assert problem.why == "Vendor says: its words (request req_1)"
        assert "Vendor" in problem.what
        assert DOING in problem.what
        assert problem.fix


def test_the_wish_to_wait_is_kept_where_it_may_help(troubles):
    assert troubles.refused(DOING, 429, "w", after_s=7.0).after_s == 7.0
    assert troubles.refused(DOING, 503, "w", after_s=7.0).after_s == 7.0
    assert troubles.refused(DOING, 429, "w").after_s is None
    assert troubles.refused(DOING, 400, "w", after_s=7.0).after_s is None


@pytest.mark.parametrize("creating", [False, True])
def test_a_used_up_quota_is_for_good(troubles, creating):
    error = troubles.refused(DOING, 429, "w", exhausted=True, after_s=3.0, creating=creating)
    assert (type(error), error.problems[0].code, error.retry) == (ProviderError, "E408", False)


@pytest.mark.parametrize("status", [403, 410])
def test_a_service_that_has_ended_is_for_good(troubles, status):
    error = troubles.ended(DOING, status, f"no more, {SECRET}", request_id="req_1")
    assert (type(error), error.problems[0].code, error.retry) == (ProviderError, "E406", False)
    assert error.problems[0].what == f"Vendor has ended this service (create the job, {status})"
    assert error.problems[0].why == "Vendor says: no more, *** (request req_1)"


@pytest.mark.parametrize(
    ("sent", "creating", "kind", "code"),
    [
        (True, True, OutcomeUnknown, "E409"),
        (False, True, ProviderUnavailable, "E403"),
        (True, False, ProviderUnavailable, "E403"),
        (False, False, ProviderUnavailable, "E403"),
    ],
)
def test_silence(troubles, sent, creating, kind, code):
    error = troubles.unreachable(DOING, "ReadTimeout: x", sent=sent, creating=creating)
    assert (type(error), error.problems[0].code) == (kind, code)
    assert error.problems[0].why == "ReadTimeout: x"
    # Of a request that left, nobody here knows that.
    assert ("nothing was done" in error.problems[0].fix) is not sent


@pytest.mark.parametrize(("creating", "kind"), [(True, OutcomeUnknown), (False, ProviderUnavailable)])
def test_an_answer_that_is_none(troubles, creating, kind):
    error = troubles.nonsense(DOING, "<html>", creating=creating)
    assert (type(error), error.problems[0].code) == (kind, "E411")


def test_no_secret_comes_through_whatever_happens(troubles):
    words = f"a {SECRET} and\x00 Bearer {SECRET} and x{SECRET}y"
    errors = [
        troubles.refused(DOING, status, words, creating=creating, exhausted=exhausted, request_id=SECRET)
        for (status, *_), creating, exhausted in itertools.product(TABLE, (False, True), (False, True))
    ]
    errors += [
        troubles.unreachable(DOING, words, sent=sent, creating=creating)
        for sent, creating in itertools.product((False, True), repeat=2)
    ]
    errors += [troubles.nonsense(DOING, words, creating=creating) for creating in (False, True)]
    assert len(errors) > 90
    for error in errors:
        assert SECRET not in f"{error} {error!r}"
        assert "\x00" not in str(error)
        assert pickle.loads(pickle.dumps(error)).problems == error.problems


@pytest.mark.parametrize(
    ("words", "clean"),
    [
        ("key: sk-proj-abcDEF123456", "key: ***"),
        ("key: sk-proj-********wxyz.", "key: ***"),
        ("Authorization: Bearer abcdef123456", "Authorization: ***"),
        ("token ya29.a0AfH6SMBx_y-z", "token ***"),
        ("key-0123456789abcdef", "***"),
        ("Incorrect API key provided: wrong-SE****6789. Look", "Incorrect API key provided: *** Look"),
        # Words that only look like them.
        ("Example 3 is missing key preferred_output", "Example 3 is missing key preferred_output"),
        ("the key messages is missing; key_values too", "the key messages is missing; key_values too"),
        ("a risk-averse task-based desk-organiser", "a risk-averse task-based desk-organiser"),
        ("2 ** 3 and **bold**", "2 ** 3 and **bold**"),
        ("  two\nlines\tand\x07more ", "two lines and more"),
        ("", ""),
    ],
)
def test_words_of_a_vendor_as_they_are_shown(words, clean):
    assert Troubles("Vendor").clean(words) == clean


def test_long_words_are_cut_after_secrets_are_out():
    troubles = Troubles("Vendor", (SECRET,))
    shown = troubles.clean("x" * 490 + SECRET)
    assert len(shown) <= 500
    assert "sandbox" not in shown


@pytest.mark.timeout(5)
@pytest.mark.parametrize("word", ["a", "*", "a*", "key-", "sk-", "Bearer "])
def test_a_page_instead_of_words_is_no_work(word):
    assert len(Troubles("Vendor", (SECRET,)).clean(word * 2_000_000)) <= 500


def test_an_empty_secret_hides_nothing():
    assert Troubles("Vendor", ("",)).clean("abc") == "abc"


def test_silence_of_words():
    assert Troubles("Vendor").refused(DOING, 400, "").problems[0].why == "Vendor says: nothing"
