"""Markdown tables of what fuzz.py, kill.py, places.py and soak.py recorded: ``python table.py RECORD.json …``."""

import json
import sys
from pathlib import Path


def fuzzed(record: dict) -> list[list[str]]:
    rows = [["reader", "files opened", "read", "refused", "findings", "most memory beyond the start"]]
    for name, entry in record["targets"].items():
        counts = entry["outcomes"]
        numbers = (entry["executions"], counts.get("accepted", 0), counts.get("refused", 0), len(entry["findings"]))
        rows.append([name, *(f"{n:,}" for n in numbers), f"{entry['peak_growth_bytes'] >> 20} MiB"])
    total = sum(entry["executions"] for entry in record["targets"].values())
    findings = sum(len(entry["findings"]) for entry in record["targets"].values())
    return [*rows, ["**all**", f"**{total:,}**", "", "", f"**{findings}**", ""]]


def killed(record: dict) -> list[list[str]]:
    rows = [["command", "kills", "seen after a kill", "finished units found again", "findings"]]
    for name, entry in record["scenarios"].items():
        seen = ", ".join(f"{what}: {count}" for what, count in sorted(entry["seen_after_kill"].items()))
        rows.append([name, str(entry["kills"]), seen, str(entry["finished_units_kept"]), str(len(entry["findings"]))])
    return rows


def placed(record: dict) -> list[list[str]]:
    rows = [["what is wrong", "how", "runs", "seen", "findings"]]
    for name, case in record["cases"].items():
        seen = ", ".join(f"{what}: {count}" for what, count in sorted(case["seen"].items()))
        rows.append([name, case["how"], str(case["runs"]), seen, str(len(case["findings"]))])
    return rows


def soaked(record: dict) -> list[list[str]]:
    rows = [[f"{record['volumes']:,} volumes", "private memory, first tenth → end", "open files", "flat"]]
    for name, stage in record["stages"].items():
        memory = f"{stage['private_mib_first']} → {stage['private_mib_last']} MiB"
        rows.append([name, memory, "–".join(map(str, stage["open_files"])), "yes" if stage["flat"] else "**no**"])
    return rows


FORMS = (("targets", fuzzed), ("scenarios", killed), ("cases", placed), ("stages", soaked))


def markdown(rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + " --- |" * len(rows[0]), *lines[1:]])


if __name__ == "__main__":
    for path in map(Path, sys.argv[1:]):
        content = json.loads(path.read_text())
        form = next(form for key, form in FORMS if key in content)
        print(f"{markdown(form(content))}\n\nMade by `{content['command']}`.\n")
