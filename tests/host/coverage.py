"""Line and branch coverage of mm, of what it uses of rtl, and of ldr, from gcov: a table per file, the
total, and what never ran.

Every line must run, and TARGET_BRANCHES of the branches must be taken. A branch is one way out of a
condition: each && and || has two. Each one that is not taken must be listed in uncovered.txt, with
its reason: the check fails on one that is not listed, and on a listed one that is taken. Which
branches there are is the compiler's opinion, so the list names the gcc that it was written for, and
any other only counts.
"""

import argparse
import gzip
import json
import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

TARGET_BRANCHES = 95.0
SHOWN = 40
GROUPS = {"rtl": Path("kernel/rtl"), "ldr": Path("kernel/ldr"), "mm": Path("mm")}
ENTRY = re.compile(r"^(\S+\.[ch]) +(\d+) +(.+)$")
WRITTEN_FOR = re.compile(r"^# .*\bgcc (\d+)\b")


class File:
    """What is known of one source file: lines and branches, summed over all objects."""

    def __init__(self):
        self.lines = {}  # line: how often it ran
        self.branches = {}  # line: [how often each was taken]

    def add(self, entry):
        for line in entry["lines"]:
            number = line["line_number"]
            self.lines[number] = self.lines.get(number, 0) + line["count"]
            self.add_branches(number, [branch["count"] for branch in line["branches"]])

    def add_branches(self, number, counts):
        """An inline function of a header has the same branches in each object."""
        known = self.branches.get(number, [])
        if counts and len(known) == len(counts):
            self.branches[number] = [a + b for a, b in zip(known, counts)]
        elif len(counts) > len(known):
            self.branches[number] = counts

    def unrun_lines(self):
        return [line for line, count in sorted(self.lines.items()) if not count]

    def untaken(self):
        """{line: how many of its branches were not taken}, of the lines that ran."""
        return {line: counts.count(0) for line, counts in sorted(self.branches.items())
                if self.lines[line] and 0 in counts}

    def line_sum(self):
        return sum(1 for count in self.lines.values() if count), len(self.lines)

    def branch_sum(self):
        counts = [count for branches in self.branches.values() for count in branches]
        return sum(1 for count in counts if count), len(counts)


def gcov_entries(gcov, notes):
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [gcov, "--branch-probabilities", "--json-format", "--object-file", str(notes),
             str(notes)],
            cwd=folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for report in Path(folder).glob("*.json.gz"):
            with gzip.open(report) as stream:
                yield from json.load(stream)["files"]


def collect(gcov, objects, root):
    """{path below root: File} of the groups."""
    files = defaultdict(File)
    for group in GROUPS.values():
        for notes in sorted((objects / group).glob("*.gcno")):
            for entry in gcov_entries(gcov, notes):
                path = Path(entry["file"])
                if path.is_absolute() and path.is_relative_to(root):
                    path = path.relative_to(root)
                if path.parent in GROUPS.values():
                    files[path].add(entry)
    return dict(sorted(files.items()))


#
# The table.
#


def percent(covered, total):
    return 100.0 * covered / total if total else 100.0


def print_row(name, lines, branches):
    print(f"  {name:<26} {lines[0]:>5} of {lines[1]:>5} lines {percent(*lines):6.1f} %"
          f" {branches[0]:>6} of {branches[1]:>5} branches {percent(*branches):6.1f} %")


def total_of(files, sums):
    return tuple(map(sum, zip(*map(sums, files))))


def print_table(files):
    """Returns the sum of the branches of all."""
    for path, file in files.items():
        print_row(str(path), file.line_sum(), file.branch_sum())
    for name, folder in GROUPS.items():
        group = [file for path, file in files.items() if path.parent == folder]
        print_row(f"{name} in total", total_of(group, File.line_sum),
                  total_of(group, File.branch_sum))
    return total_of(files.values(), File.branch_sum)


#
# What never ran, and what was not taken, against the list.
#


def unrun_lines(path, file, source):
    return [f"{path}:{line}: never ran: {source[line - 1].strip()}" for line in file.unrun_lines()]


class Listed:
    """uncovered.txt: how many branches of each text are not taken, and for which gcc."""

    def __init__(self, text):
        self.gcc = None
        self.branches = {}  # (path, text of the line): how many are not taken
        self.problems = []
        open_entry = None  # the line number of an entry that still lacks its reason
        for number, line in enumerate(text.splitlines() + ["#"], 1):
            if line.startswith(" ") and line.strip():
                open_entry = None
                continue
            if open_entry:
                self.problems.append(f"uncovered.txt:{open_entry}: an entry without a reason")
            open_entry = self.read(number, line)

    def read(self, number, line):
        """Returns the number of the line if an entry begins there."""
        entry = ENTRY.match(line)
        version = WRITTEN_FOR.match(line)
        if version:
            self.gcc = version[1]
        if not entry:
            if line.strip() and not line.startswith("#"):
                self.problems.append(f"uncovered.txt:{number}: neither an entry nor a reason")
            return None
        key = (entry[1], entry[3].strip())
        if key in self.branches:
            self.problems.append(f"uncovered.txt:{number}: a second entry for this text")
        self.branches[key] = int(entry[2])
        return number


def untaken_by_text(path, file, source):
    """{(path, text of the line): [how many are not taken, lines that have this text]}"""
    result = {}
    for line, count in file.untaken().items():
        entry = result.setdefault((str(path), source[line - 1].strip()), [0, []])
        entry[0] += count
        entry[1].append(line)
    return result


def branch_problems(untaken, listed):
    """What is not taken, but not listed; and what is listed, but taken."""
    problems = []
    for key in sorted(untaken.keys() | listed.keys()):
        path, text = key
        count, lines = untaken.get(key, [0, []])
        if count != listed.get(key, 0):
            place = ":".join([path, ",".join(map(str, lines))]) if lines else path
            problems.append(f"{place}: {count} branches not taken, {listed.get(key, 0)} listed: "
                            f"{text}")
    return problems


def gcc_of(gcov):
    first = subprocess.run([gcov, "--version"], check=True, capture_output=True, text=True).stdout
    return re.search(r"(\d+)\.\d+\.\d+", first)[1]


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gcov", default="gcov")
    parser.add_argument("--objects", type=Path, required=True)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--listed", type=Path, required=True)
    parser.add_argument("--uncovered", type=Path, required=True,
                        help="where to write the branches that were not taken")
    arguments = parser.parse_args()
    files = collect(arguments.gcov, arguments.objects, arguments.root)
    listed = Listed(arguments.listed.read_text(encoding="utf-8"))
    print("Coverage by the host tests:")
    branches = print_table(files)
    unrun, untaken = [], {}
    for path, file in files.items():
        source = (arguments.root / path).read_text(encoding="utf-8").splitlines()
        unrun += unrun_lines(path, file, source)
        untaken.update(untaken_by_text(path, file, source))
    arguments.uncovered.write_text("".join(
        [f"{path} {count} {text}\n" for (path, text), (count, _) in untaken.items()]))

    problems = unrun + listed.problems
    if gcc_of(arguments.gcov) == listed.gcc:
        problems += branch_problems(untaken, listed.branches)
    else:
        print(f"  uncovered.txt was written for gcc {listed.gcc}: branches are only counted")
    if percent(*branches) < TARGET_BRANCHES:
        problems.append(f"less than {TARGET_BRANCHES} % of the branches were taken")
    for problem in problems[:SHOWN]:
        print(f"  {problem}")
    if problems:
        print(f"  {len(problems)} problems; the branches that were not taken: "
              f"{arguments.uncovered}")
        sys.exit(1)


if __name__ == "__main__":
    main()
