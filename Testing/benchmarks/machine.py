"""What machine figures were taken on; every benchmark prints it with them."""

import os
from pathlib import Path


def processor() -> dict[str, object]:
    """The processor's name, where the system tells, its vector extensions, and how many cores there are."""
    path = Path("/proc/cpuinfo")
    text = path.read_text() if path.exists() else ""
    lines = dict(line.split(":", 1) for line in text.split("\n\n")[0].splitlines() if ":" in line)
    found = {key.strip(): value.strip() for key, value in lines.items()}
    vector = [f for f in found.get("flags", "").split() if f.startswith(("sse", "avx", "amx", "fma", "bf16"))]
    return {"name": found.get("model name", "unknown"), "flags": " ".join(vector), "cores": os.cpu_count()}
