"""Errors that a user can mend."""


class UserError(ValueError):
    """A mistake in a flag, a recipe, a file or a data set.

    The message says what was expected, what came and what to do. Commands print it as one sentence
    instead of a traceback.
    """
