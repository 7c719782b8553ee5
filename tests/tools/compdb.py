#!/usr/bin/env python3
"""`make compdb`: writes compile_commands.json from what make would run."""

import argparse
import json
import re
import subprocess
from pathlib import Path

COMPILATION = re.compile(r" -c -o (?P<object>\S+) (?P<source>\S+)$")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", default="build")
    build = parser.parse_args().build
    make = subprocess.run(
        ["make", "--no-print-directory", "--dry-run", "--always-make", f"BUILD={build}", "all"],
        check=True, capture_output=True, text=True)
    here = str(Path.cwd())
    entries = [{"directory": here, "file": match["source"], "output": match["object"],
                "command": line}
               for line in make.stdout.splitlines() if (match := COMPILATION.search(line))]
    Path("compile_commands.json").write_text(json.dumps(entries, indent=1) + "\n")
    print(f"compile_commands.json: {len(entries)} files")


if __name__ == "__main__":
    main()
