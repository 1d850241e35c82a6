"""A process with the worker's manners and without its work, for tests of starting, listening and stopping.

``stand_in_worker.py MODE``: ``done`` tells a story and ends; ``obedient`` runs until its standard input closes;
``stubborn`` ignores that; ``crash`` raises; ``refuse`` reports an error as the worker does.
"""

import json
import os
import sys
import threading
import time


def say(**event):
    print(json.dumps(event), flush=True)


def tell_story():
    print("a library's greeting", flush=True)
    sys.stdout.write('{"event": "progress", "stage": "sch')  # a line may arrive in pieces
    sys.stdout.flush()
    time.sleep(0.1)
    print('\\u00f6n", "done": 1, "total": 2, "unit": "volumes", "seconds_left": null}', flush=True)
    print("[1, 2]\nnull\n{}", flush=True)
    say(event="warning", message="日本語")
    say(event="done", command="score")


def main(mode):
    say(event="start", command="score", version="0", pid=os.getpid())
    if mode == "done":
        tell_story()
    elif mode == "crash":
        raise RuntimeError("out of cheese")
    elif mode == "refuse":
        say(event="error", message="reference: is not there; choose another.")
        sys.exit(2)
    else:
        if mode == "obedient":
            threading.Thread(target=lambda: (sys.stdin.buffer.read(), os._exit(130)), daemon=True).start()
        time.sleep(120)


main(sys.argv[1])
