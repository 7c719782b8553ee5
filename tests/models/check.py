#!/usr/bin/env python3
"""Has spin look at every interleaving of the models beside this file, and at each model's deliberate
mistakes, which it must find. The last line is the sum.

  check.py --build FOLDER

A model's mistakes are the words that stand in its head comment before two blanks or more, in capitals,
below the line "Deliberate mistakes".
"""

import argparse
import re
import shutil
import subprocess
import sys
from pathlib import Path

MODELS = Path(__file__).resolve().parent
MISTAKE = re.compile(r"^ \*   ([A-Z][A-Z_]+) {2,}\S", re.MULTILINE)
SECONDS = 60  # for one model
DEPTH = 200000
ERRORS = re.compile(r"errors: (\d+)")
STATES = re.compile(r"^ *(\d+(?:\.\d+e\+\d+)?) states, stored", re.MULTILINE)


class BrokenModel(Exception):
    """Spin or the compiler does not understand it, or it is too large."""


def run(command, folder):
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=SECONDS)
    if done.returncode and command[0] != "./pan":
        raise BrokenModel((done.stdout + done.stderr).strip()[-500:])
    return done.stdout + done.stderr


def search(model, mistake, folder):
    """(whether spin found an error, what it said)"""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    run(["spin", *([f"-D{mistake}"] if mistake else []), "-a", str(model)], folder)
    # The shortest way to a mistake is found soon, whatever the order of the other steps.
    run(["gcc", "-O2", "-w", "-DSAFETY", "-DMEMLIM=1500", "-DBFS" if mistake else "-DCOLLAPSE",
         "-o", "pan", "pan.c"], folder)
    said = run(["./pan", f"-m{DEPTH}"], folder)
    errors = ERRORS.search(said)
    if not errors or "max search depth too small" in said or (
            errors[1] == "0" and "Search not completed" in said):
        raise BrokenModel(f"not searched to the end: {said.strip()[-500:]}")
    return errors[1] != "0", said


def complaint(model, mistake, folder):
    """None when the model holds, or its mistake is found."""
    try:
        found, said = search(model, mistake, folder)
    except (BrokenModel, subprocess.TimeoutExpired) as error:
        return str(error)
    if mistake is None:
        count = STATES.search(said)
        print(f"{model.name}: {count[1] if count else '?'} states, "
              f"{'an error' if found else 'no error'}")
        return said.splitlines()[0] if found else None
    what = next((line for line in said.splitlines() if line.startswith("pan:1:")), "nothing")
    print(f"{model.name} with {mistake}: {what.removeprefix('pan:1: ')}")
    return None if found else "this mistake is not found"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default="build")
    folder = Path(parser.parse_args().build).resolve() / "models"
    checked, failures = 0, []
    for model in sorted(MODELS.glob("*.pml")):
        text = model.read_text()
        mistakes = MISTAKE.findall(text[text.index("Deliberate mistakes"):text.index("*/")])
        for mistake in (None, *mistakes):
            checked += 1
            wrong = complaint(model, mistake, folder / f"{model.stem}-{mistake}")
            if wrong:
                failures.append(f"{model.name}{f' with {mistake}' if mistake else ''}: {wrong}")
    print("\n".join(failures) + "\n" if failures else "", end="")
    print(f"models: {checked - len(failures)} checked, {len(failures)} failed")
    sys.exit(1 if failures or not checked else 0)


if __name__ == "__main__":
    main()
