import os
import signal
import subprocess
import sys

import pytest

from finetune.training.stop import ENDED, INTERRUPTED, PASSED_ON, Interrupted, Stop

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


#: One of several processes: `PHASE LAUNCHER`.
LISTENER = """
import ctypes, sys, time
from finetune.training.stop import Interrupted, Stop, hold_back
hold_back()
print("held", flush=True)
sys.stdin.readline()
stop = Stop()
if sys.argv[1] == "deferred":
    stop.defer()
stop.listen(int(sys.argv[2]))
print("ready", flush=True)
if sys.argv[1] != "deferred":
    ctypes.CDLL(None).sleep(60)
while True:
    time.sleep(0.005)
    try:
        stop.check()
    except Interrupted:
        print("noted", flush=True)
        ctypes.CDLL(None).sleep(60)
"""
#: Passes wishes on to the process PID.
LAUNCHER = """
import sys, time
from finetune.training.stop import hold_back, pass_on
hold_back()
pass_on(lambda: int(sys.argv[1]))
print("ready", flush=True)
time.sleep(60)
"""


def started(code: str, *arguments: object) -> "subprocess.Popen[str]":
    argv = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def says(child: "subprocess.Popen[str]", line: str) -> None:
    assert child.stdout is not None
    assert child.stdout.readline() == f"{line}\n"


def listener(phase: str, launcher: int) -> "subprocess.Popen[str]":
    child = started(LISTENER, phase, launcher)
    says(child, "held")
    assert child.stdin is not None
    child.stdin.write("\n")
    child.stdin.flush()
    says(child, "ready")
    return child


def test_one_of_several_notes_the_wish_and_the_second_ends_it_wherever_it_is() -> None:
    with listener("deferred", launcher=1) as child:
        child.send_signal(signal.SIGTERM)
        says(child, "noted")
        child.send_signal(PASSED_ON)
        child.send_signal(signal.SIGTERM)
        assert child.wait(10) == INTERRUPTED


def test_a_wish_that_was_passed_on_does_not_count_as_the_first() -> None:
    with listener("deferred", launcher=1) as child:
        child.send_signal(PASSED_ON)
        says(child, "noted")
        child.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(0.3)
        child.send_signal(signal.SIGTERM)
        assert child.wait(10) == INTERRUPTED


def test_the_launchers_signal_ends_it_at_once() -> None:
    with listener("deferred", launcher=os.getpid()) as child:
        child.send_signal(signal.SIGTERM)
        assert child.wait(10) == ENDED


def test_while_nothing_can_be_saved_the_wish_ends_it() -> None:
    with listener("starting", launcher=1) as child:
        child.send_signal(signal.SIGTERM)
        assert child.wait(10) == INTERRUPTED


def test_a_wish_from_before_it_could_listen_is_not_lost() -> None:
    with started(LISTENER, "deferred", 1) as child:
        says(child, "held")
        child.send_signal(signal.SIGTERM)
        assert child.stdin is not None
        child.stdin.write("\n")
        child.stdin.flush()
        says(child, "ready")
        says(child, "noted")
        child.kill()


def test_the_launcher_passes_a_wish_on_once_and_ends_with_the_second() -> None:
    with listener("deferred", launcher=1) as first, started(LAUNCHER, first.pid) as launcher:
        says(launcher, "ready")
        launcher.send_signal(signal.SIGTERM)
        says(first, "noted")
        launcher.send_signal(signal.SIGTERM)
        assert launcher.wait(10) == INTERRUPTED
        assert first.poll() is None
        first.kill()
