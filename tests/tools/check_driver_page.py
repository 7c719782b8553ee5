#!/usr/bin/env python3
"""Does what docs/writing-a-driver.md tells its reader to do: takes the files from the page, builds them
by `make driver`, boots with them by what `make run DRIVER=` calls, and looks for what the page says
is printed.

  check_driver_page.py --build FOLDER

In the page, `<!-- file: first/first.c -->` stands before a block that is this file, and
`<!-- output: build -->` before a block whose lines must be printed in that order. The last line is the
sum: `page: N checked, N failed`.
"""

import argparse
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "writing-a-driver.md"
BLOCK = re.compile(r"<!-- (file|output): (\S+) -->\n```\w*\n(.*?)```", re.DOTALL)
SECONDS = 100


def run(*command):
    """What it printed, both ways."""
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, timeout=SECONDS)
    return done.stdout.splitlines()


def complaint(expected, printed):
    """The first line that does not come, in this order; or None."""
    rest = iter(printed)
    for line in expected.splitlines():
        if not any(line.strip() in found for found in rest):
            return f"does not print '{line.strip()}'; it prints: {' | '.join(printed[-6:])}"
    return None


def make_driver(folder, build, name):
    image = folder / name / f"{name}.sys"
    printed = run("make", "--no-print-directory", f"BUILD={build}", "driver", f"SRC={folder / name}",
                  f"OUT={image}")
    return image, [line.replace(f"{folder}/", "") for line in printed]


def boot(build, image, *more):
    return run(sys.executable, "tests/qemu/demo.py", "--build", str(build), "--driver", str(image),
               *more)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default="build")
    build = Path(parser.parse_args().build).resolve()
    folder = build / "page"
    outputs = {}
    for kind, name, text in BLOCK.findall(PAGE.read_text()):
        if kind == "output":
            outputs[name] = text
            continue
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    image, printed = make_driver(folder, build, "first")
    found = {"build": printed, "run": boot(build, image, "--qemu=-device edu")}
    image, _ = make_driver(folder, build, "refused")
    found["refused"] = boot(build, image)
    wrong = [f"writing-a-driver.md: {name}: {text}" for name in outputs
             if (text := complaint(outputs[name], found[name]))]
    print("\n".join(wrong), end="\n" if wrong else "")
    print(f"page: {len(outputs)} checked, {len(wrong)} failed")
    sys.exit(1 if wrong or not outputs else 0)


if __name__ == "__main__":
    main()
