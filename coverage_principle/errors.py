"""The one exception that means "what you gave cannot be used"."""


class InputError(ValueError):
    """A user's input is refused.

    ``str(error)`` is one sentence that names what was given, what is allowed and, where a flag is
    concerned, which flag. Commands print it to stderr and exit with status 1; library callers may
    catch it as a ``ValueError``.
    """
