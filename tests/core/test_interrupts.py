"""Signals that end a run."""

import os
import signal

import pytest

from uniface_ray.core.interrupts import InterruptedRunError, interrupts


def test_a_signal_ends_what_has_no_patience() -> None:
    with pytest.raises(InterruptedRunError) as raised, interrupts():
        os.kill(os.getpid(), signal.SIGTERM)
    assert raised.value.exit_code == 143


def _lost_in_c() -> None:
    with interrupts():
        try:
            os.kill(os.getpid(), signal.SIGINT)
        except InterruptedRunError as error:
            raise SystemError("returned a result with an exception set") from error


def test_it_ends_it_too_where_c_code_makes_another_error_of_it() -> None:
    with pytest.raises(InterruptedRunError) as raised:
        _lost_in_c()
    assert raised.value.exit_code == 130


def _broken_while_asked() -> None:
    with interrupts() as asked:
        asked.patient = True
        os.kill(os.getpid(), signal.SIGTERM)
        raise ValueError(f"broken after {asked.number}")


def test_with_patience_the_first_only_asks_and_an_error_stays_one() -> None:
    with pytest.raises(ValueError, match=f"broken after {signal.SIGTERM.value}"):
        _broken_while_asked()


def test_handlers_are_given_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with interrupts():
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before
