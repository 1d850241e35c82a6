"""ITK reads one file at a time: its readers keep the name of the file in a string that all threads share."""

from __future__ import annotations

import threading

#: Held around every call that makes ITK open a file. Without it two threads that read NIfTI files write that string at
#: once, now and then into somebody else's memory (SimpleITK 2.5.7; helgrind shows it; SimpleITK's issue 74 is open).
ONE_READER = threading.Lock()
