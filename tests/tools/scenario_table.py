"""docs/scenarios.md: the catalogue of faults, with the rows that prove each entry (tests/qemu/scenarios).
Used by check_docs.py.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "qemu"))
from machines import ALL_MACHINES  # noqa: E402
from scenarios import CATALOGUE, SCENARIOS  # noqa: E402

TABLE = ROOT / "docs" / "scenarios.md"
NUMBER = re.compile(r"^f(\d+)-")

HEAD = """# Scenarios

Made by `make docs` from `tests/qemu/scenarios/catalogue.py`; don't edit. Each row is a boot in which a fault is
injected, or the host watches; `python3 tests/qemu/run.py --only '^f01'` runs those of F1.
[testing.md](testing.md#scenarios) says how they work.

| | fault | how | what the guest does | rows |
|---|---|---|---|---|
"""


def rows_of(entry):
    return [row.name for row in SCENARIOS
            if (match := NUMBER.match(row.name)) and int(match[1]) == entry.number
            ] + list(entry.rows)


def line_of(entry):
    rows = ", ".join(f"`{name}`" for name in rows_of(entry))
    return (f"| F{entry.number} | {entry.title} | {entry.how} | "
            f"{entry.expected or '-'} | {rows or entry.why_not} |\n")


def text():
    return HEAD + "".join(map(line_of, CATALOGUE))


def complaints():
    """Rows and entries that have nothing to do with each other."""
    numbers = {entry.number for entry in CATALOGUE}
    for row in SCENARIOS:
        match = NUMBER.match(row.name)
        if match is not None and int(match[1]) not in numbers:
            yield f"{row.name}: the catalogue has no such number"
    names = {row.name for row in ALL_MACHINES + SCENARIOS}
    for entry in CATALOGUE:
        if bool(entry.why_not) == bool(rows_of(entry)):
            yield f"F{entry.number} of the catalogue needs rows, or else a reason"
        yield from (f"F{entry.number} of the catalogue: there is no row {name}"
                    for name in rows_of(entry) if name not in names)
