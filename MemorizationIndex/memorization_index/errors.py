"""The one error that users are meant to read."""


class MemorizationIndexError(ValueError):
    """An expected failure: its message is one sentence that names the file or setting and says what to do."""


def install(extra: str) -> str:
    """How an optional part is installed, for the end of a sentence. (The package is on no index: from its clone.)"""
    return f"so run, in the clone of the repository: pip install '.[{extra}]'"
