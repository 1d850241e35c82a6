"""``Slicer`` of this host: the few options of its command line that scripts and tests use."""

import argparse
import os
import runpy
import sys

# Before Testing is on the path: slicer-core takes every folder called "slicer" on it for a part of itself.
import slicer

sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

from host import loadModule, shutdown, start  # noqa: E402 (found through the line above)


def main():
    parser = argparse.ArgumentParser(prog="Slicer", allow_abbrev=False)
    for flag in ("--testing", "--no-splash", "--no-main-window", "--ignore-slicerrc", "--disable-settings"):
        parser.add_argument(flag, action="store_true")
    parser.add_argument("--additional-module-paths", nargs="+", default=[])
    parser.add_argument("--python-script", required=True)
    options, arguments = parser.parse_known_args()
    start().mainWindowWanted = not options.no_main_window
    for folder in options.additional_module_paths:
        name = os.path.basename(os.path.abspath(folder))
        loadModule(os.path.join(folder, name + ".py"))
    sys.argv = [options.python_script, *arguments]
    runpy.run_path(options.python_script, run_name="__main__")
    shutdown()


assert slicer
main()
