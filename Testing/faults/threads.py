"""Read files in two threads at once, watched by helgrind (valgrind), which notices what they share without a lock.

PYTHONMALLOC=malloc valgrind --tool=helgrind --history-level=approx --log-file=races.log \\
    python Testing/faults/threads.py FILE…
grep -c 'std::string' races.log

``--without-lock`` leaves out the lock that ``read_volume`` holds (``memorization_index.itk_files``), for comparison.
"""

from __future__ import annotations

import argparse
import threading
from contextlib import nullcontext
from pathlib import Path

from memorization_index import volumes

_READINGS = 6


def main() -> None:
    """Read every file ``_READINGS`` times in each of two threads."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--without-lock", action="store_true")
    options = parser.parse_args()
    if options.without_lock:
        vars(volumes)["ONE_READER"] = nullcontext()

    def work() -> None:
        for path in options.files * _READINGS:
            volumes.read_volume(path)

    volumes.read_volume(options.files[0])
    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
