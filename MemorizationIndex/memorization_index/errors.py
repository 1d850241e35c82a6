"""The one error that users are meant to read."""


class MemorizationIndexError(ValueError):
    """An expected failure: its message is one sentence that names the file or setting and says what to do."""
