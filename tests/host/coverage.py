"""Line coverage of mm, from gcov: a table per file, the total, and a list of what never ran."""

import argparse
import gzip
import json
import subprocess
import sys
import tempfile
from pathlib import Path

TARGET_PERCENT = 95.0


def gcov_files(gcov, notes, root):
    """Yields (path below root, {line: count}) for each source that one object was made of."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([gcov, "--json-format", "--object-file", str(notes), str(notes)],
                       cwd=folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for report in Path(folder).glob("*.json.gz"):
            with gzip.open(report) as stream:
                for entry in json.load(stream)["files"]:
                    path = Path(entry["file"])
                    if path.is_absolute() and path.is_relative_to(root):
                        path = path.relative_to(root)
                    yield path, {line["line_number"]: line["count"] for line in entry["lines"]}


def collect(gcov, objects, root):
    """{path: {line: how often it ran}} for the sources of mm."""
    lines = {}
    for notes in sorted(objects.glob("*.gcno")):
        for path, counts in gcov_files(gcov, notes, root):
            if path.parts[0] == "mm" and path.suffix == ".c":
                merged = lines.setdefault(path, {})
                for line, count in counts.items():
                    merged[line] = merged.get(line, 0) + count
    return lines


def percent(covered, total):
    return 100.0 * covered / total if total else 100.0


def print_row(name, covered, total):
    print(f"  {name:<20} {covered:>5} of {total:>5} lines {percent(covered, total):6.1f} %")


def print_table(lines):
    all_covered = all_total = 0
    for path in sorted(lines):
        covered = sum(1 for count in lines[path].values() if count)
        total = len(lines[path])
        all_covered += covered
        all_total += total
        print_row(str(path), covered, total)
    print_row("mm in total", all_covered, all_total)
    return percent(all_covered, all_total)


def write_uncovered(lines, root, target):
    with open(target, "w", encoding="utf-8") as stream:
        for path in sorted(lines):
            source = (root / path).read_text(encoding="utf-8").splitlines()
            for line, count in sorted(lines[path].items()):
                if not count:
                    stream.write(f"{path}:{line}: {source[line - 1].strip()}\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gcov", default="gcov")
    parser.add_argument("--objects", type=Path, required=True)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--uncovered", type=Path, required=True)
    arguments = parser.parse_args()
    lines = collect(arguments.gcov, arguments.objects, arguments.root)
    print("Line coverage of mm by the host tests:")
    total = print_table(lines)
    write_uncovered(lines, arguments.root, arguments.uncovered)
    print(f"  lines that never ran: {arguments.uncovered}")
    if total < TARGET_PERCENT:
        print(f"  less than {TARGET_PERCENT} %")
        sys.exit(1)


if __name__ == "__main__":
    main()
