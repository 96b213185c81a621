"""The error that a user can mend."""


class UserError(Exception):
    """A fault in the user's files or settings: one line that names the file or setting and the mend."""
