"""The two expected failures; everything else is a bug and keeps its traceback."""


class UserError(ValueError):
    """A mistake of the user: one line that says what was expected, what was found, what to do.

    The command line prints the message and exits with code 2.
    """


class MediaError(Exception):
    """A medium that cannot be read: becomes one rejected clip with this reason.

    The first word of the reason is a stable code (``no_media``, ``not_media``, ``no_video`` ...),
    the rest is for people.
    """
