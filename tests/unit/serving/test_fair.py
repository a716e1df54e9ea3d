import threading

from finetune.serving.fair import FairLock


def test_it_is_reentrant_and_excludes() -> None:
    lock, inside, most = FairLock(), 0, 0
    done = []

    def work() -> None:
        nonlocal inside, most
        for _ in range(200):
            with lock, lock:
                inside += 1
                most = max(most, inside)
                inside -= 1
        done.append(True)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (most, len(done)) == (1, 6)


def test_a_waiter_comes_before_the_thread_that_has_just_released() -> None:
    lock, waiting, order = FairLock(), threading.Event(), []

    def wait_for_turn() -> None:
        waiting.set()
        with lock:
            order.append("waiter")

    thread = threading.Thread(target=wait_for_turn)
    with lock:
        thread.start()
        waiting.wait()
        while not lock._waiting:
            threading.Event().wait(0.001)
    with lock:
        order.append("again")
    thread.join()
    assert order == ["waiter", "again"]


def test_who_gives_up_waiting_leaves_the_queue_or_passes_the_turn_on() -> None:
    lock, turn = FairLock(), threading.Lock()
    with lock:
        lock._waiting.append((1, turn))
        lock._give_up(1, turn)
        assert not lock._waiting
    lock._owner, lock._depth = 1, 1
    lock._give_up(1, turn)
    with lock:
        pass
