"""The command line: runs a command, shows how far it is, tells what went wrong. ``commands`` has what each does."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from memorization_index._version import __version__
from memorization_index.commands import building, checking, demo, evaluating, growing, looking, scoring
from memorization_index.commands.options import STOPPED, WRONG_USE
from memorization_index.errors import MemorizationIndexError
from memorization_index.progress import (
    JsonProgress,
    PlainProgress,
    Progress,
    RichProgress,
    Stopped,
    stop_when_stdin_closes,
)

#: Defines each command, in the order of --help.
_COMMANDS: tuple[Callable[[Any], None], ...] = (
    building.add_build,
    growing.add_extend,
    growing.add_merge,
    scoring.add_score,
    evaluating.add_evaluate,
    evaluating.add_generator,
    evaluating.add_compare,
    checking.add_verify,
    checking.add_sign,
    scoring.add_report,
    looking.add_preview,
    looking.add_locate,
    looking.add_unpack,
    looking.add_devices,
    looking.add_encoders,
    demo.add_demo,
)
#: Commands that keep what was finished when they are stopped.
_RESUMED = ("build", "extend", "evaluate")
_EPILOG = """exit codes:
  0  done
  2  wrong use, or a reference or input that cannot be read
  3  a condition of --fail-on is met
  4  verify: a result is not whole or cannot be had again, or a signature is not the one expected
  5  a condition of --fail-on is not met, but some images could not be examined, or not compared with the training scans
  130  stopped"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    # Before NumPy is imported. Slices are worked on in threads of our own; BLAS threads beside those spin and make a
    # build up to four times slower on two cores. (PyTorch has threads of its own.)
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    options = _parser().parse_args(arguments)
    progress = _progress(options)
    if getattr(options, "watch_stdin", False):
        stop_when_stdin_closes(progress, STOPPED)
    if isinstance(progress, JsonProgress):
        progress.event("start", command=options.command, version=__version__, pid=os.getpid())
    command: Callable[[argparse.Namespace, Progress], int] = options.run
    try:
        with _stopped_by_interrupt(progress):
            return command(options, progress)
    except MemorizationIndexError as error:
        progress.close()
        _tell_error(progress, str(error))
        return WRONG_USE
    except BrokenPipeError:  # whoever read the output is gone; nothing can be told any more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return STOPPED
    except OSError as error:
        progress.close()
        where = f"{error.filename}: " if error.filename else ""
        _tell_error(progress, f"{where}{error.strerror or error}; expected a readable and writable place.")
        return WRONG_USE
    except (Stopped, KeyboardInterrupt):
        progress.close()
        resumes = options.command in _RESUMED
        rest = "the same command goes on from what was finished" if resumes else "nothing was written"
        _tell_error(progress, f"Stopped; {rest}.")
        return STOPPED
    finally:
        progress.close()


@contextmanager
def _stopped_by_interrupt(progress: Progress) -> Iterator[None]:
    """Let Ctrl-C also stop what works in threads, at its next step: the interrupt itself reaches the main one alone."""

    def interrupted(_signal: int, _frame: object) -> None:
        progress.stop()
        raise KeyboardInterrupt

    # Where another handler is there (a program that calls this), or interrupts are ignored, it stays.
    is_ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if not is_ours or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGINT, interrupted)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _tell_error(progress: Progress, message: str) -> None:
    if isinstance(progress, JsonProgress):
        progress.event("error", message=message)
    else:
        print(f"memorization-index: {message}", file=sys.stderr)


def _progress(options: argparse.Namespace) -> Progress:
    if getattr(options, "json", False):
        return JsonProgress()
    if sys.stderr.isatty() and hasattr(options, "json"):
        try:
            return RichProgress()
        except ImportError:  # rich is not among what Slicer brings
            return PlainProgress()
    return PlainProgress()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="memorization-index",
        description="Find copies of training scans in the output of generative MRI models.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"memorization-index {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add in _COMMANDS:
        add(commands)
    return parser
