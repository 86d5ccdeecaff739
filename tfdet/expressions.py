"""Regular expressions of recipes: checked when they are read, compared within a time limit."""

import contextlib
import re
import signal
import threading
import types
from collections.abc import Iterator, Sequence

from tfdet import limits
from tfdet.errors import UserError


def check(where: str, expression: str) -> None:
    """Refuses what is not a regular expression; `where` is the key that has it."""
    if len(expression) > limits.MAX_EXPRESSION_LETTERS:
        raise UserError(
            f"{where} has {len(expression)} letters; give an expression of at most "
            f"{limits.MAX_EXPRESSION_LETTERS}"
        )
    try:
        re.compile(expression)
    except (re.error, OverflowError) as error:
        raise UserError(f"{where} is not a regular expression: {error}") from None
    except RecursionError:
        raise UserError(f"{where} is not a regular expression: it is nested too deep") from None


def positions(
    where: str, expression: str, texts: Sequence[str], at_start: bool = False
) -> list[int]:
    """Positions of the texts in which an expression has a match.

    Args:
        where: the key that has the expression.
        expression: some take longer than anyone lives to find that they do not match.
        texts: short ones, such as paths of variables.
        at_start: a match must begin where the text does.
    """
    pattern = re.compile(expression)
    find = pattern.match if at_start else pattern.search
    with _in_time(where, expression):
        return [i for i, text in enumerate(texts) if find(text)]


@contextlib.contextmanager
def _in_time(where: str, expression: str) -> Iterator[None]:
    """Ends the block where it takes too long; of the main thread on systems with timers alone.

    Python looks at signals while it compares, and nothing else can stop it from doing so.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or not hasattr(signal, "setitimer") or signal.getitimer(signal.ITIMER_REAL)[0]:
        yield
        return

    def stop(number: int, frame: types.FrameType | None) -> None:
        raise UserError(
            f"{where}: comparing {expression!r} with the names of the variables takes more than "
            f"{limits.MAX_EXPRESSION_SECONDS:g} s; write it without a repeat within a repeat"
        )

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, limits.MAX_EXPRESSION_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
