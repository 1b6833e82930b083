"""Ctrl-C once, twice, and twice before Python has looked."""

import hashlib
import os
import signal
import threading

import pytest

from orchestrator.host.interrupts import Interrupts
from tests.orchestrator.fakes import Clock


@pytest.fixture
def told():
    return []


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def interrupts(told, clock):
    return Interrupts(clock, lambda: told.append("first"))


def press(times, number=signal.SIGINT):
    """Each is delivered before the next is sent, to the thread that sends it."""
    for _ in range(times):
        signal.raise_signal(number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_is_a_request_and_the_second_an_exception(interrupts, told, clock, number):
    with interrupts.watched():
        press(1, number)
        assert (interrupts.count, told) == (1, ["first"])
        clock.sleep(4)
        assert interrupts.seconds == 4
        with pytest.raises(KeyboardInterrupt):
            press(1, number)
    assert (interrupts.count, told) == (2, ["first"])


def makes_long_calls(while_):
    while while_():
        hashlib.pbkdf2_hmac("sha256", b"long", b"call", 2_000_000)


def test_two_that_come_during_one_long_call_are_two(interrupts, told):
    """Python would run the handler once: in a call that waits for Ray as in this one."""
    presses = threading.Timer(0.05, press, (2,))
    with interrupts.watched():
        presses.start()
        with pytest.raises(KeyboardInterrupt):
            makes_long_calls(while_=presses.is_alive)
        presses.join()
    assert interrupts.count == 2


def test_one_counts_though_its_byte_comes_late(interrupts, told):
    """Another thread may take the signal: this one then calls the handler before that has written the byte."""
    with interrupts.watched():
        written = signal.set_wakeup_fd(-1)
        press(1)
        signal.set_wakeup_fd(written, warn_on_full_buffer=False)
        assert (interrupts.count, told) == (1, ["first"])
        os.write(written, bytes([signal.SIGINT]))
        with pytest.raises(KeyboardInterrupt):
            press(1)
    assert interrupts.count == 2


def test_what_was_there_before_is_there_again(interrupts, told):
    handler, wakeup = signal.getsignal(signal.SIGINT), signal.set_wakeup_fd(-1)
    for _ in range(3):
        with interrupts.watched():
            press(0)
    assert signal.getsignal(signal.SIGINT) is handler
    assert signal.set_wakeup_fd(wakeup) == -1
    with pytest.raises(KeyboardInterrupt):
        press(1)
    assert (interrupts.count, told) == (0, [])


def test_in_another_thread_it_watches_nothing(interrupts):
    def watch():
        with interrupts.watched():
            seen.append(interrupts.count)

    seen = []
    thread = threading.Thread(target=watch)
    thread.start()
    thread.join()
    assert seen == [0]


def test_other_signals_are_not_counted(interrupts, told):
    before = signal.signal(signal.SIGUSR1, lambda *_: None)
    try:
        with interrupts.watched():
            press(2, signal.SIGUSR1)
            press(1)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert (interrupts.count, told) == (1, ["first"])
