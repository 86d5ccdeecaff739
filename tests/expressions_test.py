import threading
import time

import pytest

from tfdet import expressions, limits
from tfdet.errors import UserError

ENDLESS = "(([a-z_/0-9]+)+)+#"
PATHS = ["backbone/stem/conv/kernel", "neck/cell_0/fusion/weights", "head/class_net/bias"]


def test_positions_of_matches():
    assert expressions.positions("train.rates", "kernel|bias$", PATHS) == [0, 2]
    assert expressions.positions("train.frozen", "neck|kernel", PATHS, at_start=True) == [1]


@pytest.mark.parametrize(
    "expression", ["(a", "*", "a{99999999999999999999}", "(" * 1990, "a" * 2001]
)
def test_what_is_no_expression_is_refused(expression):
    with pytest.raises(UserError, match=r"train\.frozen"):
        expressions.check("train.frozen", expression)


def test_a_comparison_without_end_is_stopped(monkeypatch):
    monkeypatch.setattr(limits, "MAX_EXPRESSION_SECONDS", 0.2)
    start = time.monotonic()
    with pytest.raises(UserError, match="without a repeat within a repeat"):
        expressions.positions("train.frozen", ENDLESS, PATHS)
    assert time.monotonic() - start < 5
    assert expressions.positions("train.frozen", "neck", PATHS) == [1]  # the timer is gone


def test_other_threads_compare_too():
    found = []
    thread = threading.Thread(
        target=lambda: found.append(expressions.positions("train.rates", "bias", PATHS))
    )
    thread.start()
    thread.join()
    assert found == [[2]]
