"""Errors that a user can mend."""


class UserError(ValueError):
    """A mistake in a flag, a recipe, a file or a data set.

    The message has three parts: what was expected, what came and what to do. Commands print it as
    one sentence instead of a traceback.
    """


def first_line(error: BaseException) -> str:
    """The reason in an error of a library: the first line of its text, or its class."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__


class Interrupted(KeyboardInterrupt):
    """A signal ended the work; the message has what is kept.

    Args:
        message: one sentence.
        number: of the signal.
    """

    def __init__(self, message: str, number: int):
        super().__init__(message)
        self.number = number
