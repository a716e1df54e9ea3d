import signal
import subprocess
import sys

import pytest

from finetune.training.stop import INTERRUPTED, Interrupted, Stop

LOOP = """
import time
from finetune.training.stop import Interrupted, Stop
stop = Stop()
stop.install()
stop.defer()
print("ready", flush=True)
noted = False
while True:
    time.sleep(0.005)
    try:
        stop.check()
    except Interrupted:
        if not noted:
            print("noted", flush=True)
        noted = True
"""


def test_before_the_loop_a_signal_ends_it_at_once() -> None:
    with pytest.raises(Interrupted):
        Stop().ask()


def test_in_the_loop_it_is_noted_until_asked_for() -> None:
    stop = Stop()
    stop.defer()
    stop.check()
    stop.ask()
    with pytest.raises(Interrupted):
        stop.check()


def test_interrupted_is_nothing_that_a_library_would_catch() -> None:
    assert not issubclass(Interrupted, Exception)


def test_the_second_signal_ends_the_process_on_the_spot() -> None:
    with subprocess.Popen([sys.executable, "-c", LOOP], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        child.send_signal(signal.SIGTERM)
        assert child.stdout.readline() == "noted\n"
        child.send_signal(signal.SIGTERM)
        assert child.wait(10) == INTERRUPTED
