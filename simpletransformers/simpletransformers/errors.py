"""The one exception that means "what you gave cannot be used"."""


class InputError(ValueError):
    """A user's input is refused.

    ``str(error)`` is one sentence that names what was given and what is allowed. Settings and
    arguments are named in backticks (```max_steps` -1 is too small``); a command writes the flag
    that sets them in their place, prints the sentence and exits with status 1. Library callers may
    catch it as a ``ValueError``.
    """
