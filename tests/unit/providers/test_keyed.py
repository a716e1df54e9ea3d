"""What providers with a credential share."""

import threading

import pytest

from finetune.errors import AuthenticationFailed
from finetune.providers.keyed import Opened, missing


def test_a_client_is_made_once_and_by_one_thread():
    made, got = [], []
    together = threading.Barrier(4)
    opened = Opened()

    def make():
        made.append(object())
        return made[-1]

    def ask():
        together.wait(10)
        got.append(opened.get(list, make))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert got == made * 4


def test_no_client_is_made_while_something_is_missing():
    opened, absent = Opened(), [missing("KEY is not set", "export KEY=..."), missing("no package", "pip install it")]
    with pytest.raises(AuthenticationFailed) as caught:
        opened.get(lambda: absent, lambda: pytest.fail("it was made"))
    assert caught.value.problems == tuple(absent)
    assert {problem.code for problem in absent} == {"E412"}
    # It is set by now.
    assert opened.get(list, lambda: "client") == "client"


def test_a_client_that_could_not_be_made_is_made_later():
    opened = Opened()
    with pytest.raises(OSError, match="disk"):
        opened.get(list, lambda: (_ for _ in ()).throw(OSError("disk")))
    assert opened.get(list, lambda: "client") == "client"
