"""Deliberate defects: each row damages one place of the tree, and the named suite must notice.

A row holds a file, the exact text to replace (it must occur once), the new text, and who must fail:
HOST for the host tests, or the name of a row of machines.py. A suite that passes on a damaged tree
is a failure of the suite; a row whose text is no longer in the file, or that does not compile, is a
failure of the row.

The tree is copied once for each kind of suite and built incrementally, so a mutation costs a few
seconds.
"""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TREE = ("Makefile", "linker.ld", "arch", "boot", "drivers", "kernel", "mm", "tests")
BUILD = "build"
SECONDS = 600  # the longest that a build or the host tests may take
OUTPUT_LINES_SHOWN = 5
MAKE_VARIABLES = ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")  # of the make that runs us; not for others

HOST = "host"


@dataclass(frozen=True)
class Mutation:
    name: str  # what is broken, as a clause
    file: str
    old: str
    new: str
    suite: str
    filter: str = ""  # HOST: only tests whose "suite.name" contains it; saves time


MUTATIONS = (
    Mutation("usable memory is taken for reserved", "boot/handoff.c",
             "[1] = LoaderMemoryUsable,", "[1] = LoaderMemoryReserved,", HOST, "handoff"),
)


class MutantTree:
    """A copy of the tree that is damaged, built and repaired again, one mutation at a time."""

    def __init__(self, folder):
        self.folder = Path(folder)
        shutil.rmtree(self.folder, ignore_errors=True)
        for name in TREE:
            source, copy = ROOT / name, self.folder / name
            if source.is_dir():
                shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__", BUILD))
            else:
                self.folder.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, copy)

        self.build = self.folder / BUILD
        self.kernel = self.build / "iospace"

    def compile(self, suite):
        """(succeeded, what make said)"""
        if suite == HOST:
            return run_make(self.folder / "tests" / "host", self.build, str(self.build / "host-asan"))
        return run_make(self.folder, self.build, "all")

    def run_host_tests(self, text):
        """Those whose name contains the text, with few random operations. True: they pass."""
        return run_make(self.folder / "tests" / "host", self.build, "quick", f"FILTER={text}")[0]

    def damaged(self, mutation):
        return Damage(self.folder / mutation.file, mutation)


class Damage:
    """The time during which one file is damaged."""

    def __init__(self, path, mutation):
        self.path = path
        self.mutation = mutation

    def __enter__(self):
        self.text = self.path.read_text() if self.path.exists() else ""
        count = self.text.count(self.mutation.old)
        if count != 1:
            raise LookupError(f"its text occurs {count} times in {self.mutation.file}")
        self.path.write_text(self.text.replace(self.mutation.old, self.mutation.new))

    def __exit__(self, *_):
        self.path.write_text(self.text)


def run_make(folder, build, *goals):
    environment = {name: value for name, value in os.environ.items() if name not in MAKE_VARIABLES}
    try:
        done = subprocess.run(["make", "-C", str(folder), f"BUILD={build}", *goals],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              errors="replace", env=environment, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return False, f"make {' '.join(goals)} did not end within {SECONDS} s"
    return done.returncode == 0, done.stdout


def try_mutation(tree, mutation, suite_fails):
    """None when the suite noticed; else what is wrong. suite_fails(tree, mutation) runs it."""
    try:
        with tree.damaged(mutation):
            built, output = tree.compile(mutation.suite)
            if not built:
                return "does not compile: " + " | ".join(output.splitlines()[-OUTPUT_LINES_SHOWN:])
            return None if suite_fails(tree, mutation) else f"{mutation.suite} did not notice"
    except LookupError as error:
        return str(error)
