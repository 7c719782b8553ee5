#!/usr/bin/env python3
"""`make check`: every check that needs no machine. One line per step, the findings below it.

Takes the compiler and its flags from the environment (CC, CFLAGS), as make has them.
"""

import argparse
import os
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

INCLUDES = ["-I.", "-Ikernel/ddk", "-Iarch/x64/inc"]
FOLDERS = ("arch", "boot", "drivers", "kernel", "mm", "tests/kernel", "tests/examples",
           "tests/host")
DRIVERS = ("drivers/", "tests/examples/")  # what includes kernel/ddk alone
FINDINGS_SHOWN = 40
TIDY_CHECKS = "-*,bugprone-*,clang-analyzer-*,-bugprone-easily-swappable-parameters," \
              "-bugprone-reserved-identifier,-bugprone-narrowing-conversions," \
              "-bugprone-assignment-in-if-condition," \
              "-clang-analyzer-security.insecureAPI.DeprecatedOrUnsafeBufferHandling"


def sources(suffixes, folders=FOLDERS):
    return sorted(str(path) for folder in folders for path in Path(folder).rglob("*")
                  if path.suffix in suffixes)


def run(command, environment=None):
    """(good, what it printed)"""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          env=dict(os.environ, **(environment or {})))
    return done.returncode == 0, done.stdout


def run_each(commands):
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = list(pool.map(run, commands))
    return all(good for good, _ in results), "".join(output for good, output in results if not good)


def check_format(_):
    return run(["clang-format", "--dry-run", "--Werror", *sources((".c", ".h"))])


def check_includes(_):
    return run([sys.executable, "tests/tools/check_includes.py"])


def check_exports(_):
    return run([sys.executable, "kernel/ldr/makeexports.py", "headers", "kernel/ldr/exports.txt",
                *sources((".h",), ("kernel/ddk",))])


def kernel_flags(path):
    own = ["-Ikernel/ddk", f"-I{Path(path).parent}"] if path.startswith(DRIVERS) else INCLUDES
    return shlex.split(os.environ["CFLAGS"]) + own


def check_headers(_):
    """Each header must compile alone."""
    compiler = shlex.split(os.environ["CC"])
    headers = [path for path in sources((".h",), [f for f in FOLDERS if f != "tests/host"])
               if not path.startswith("kernel/kit/")]  # those belong to another compiler
    alone = ["-Wno-unused-function", "-fsyntax-only", "-x", "c"]
    return run_each([compiler + kernel_flags(header) + alone + ["-include", header, "/dev/null"]
                     for header in headers])


def check_compiler(build, compiler, debug):
    good, output = run(["make", "--no-print-directory", "--keep-going", f"-j{os.cpu_count()}",
                        f"BUILD={build}/{compiler}-{debug}", f"CC={compiler}", f"DBG={debug}",
                        "all"], {"MAKEFLAGS": ""})
    return good, "\n".join(line for line in output.splitlines() if not line.startswith("  "))


def check_gcc(build):
    return check_compiler(build, "gcc", 1)


def check_gcc_free(build):
    return check_compiler(build, "gcc", 0)


def check_clang(build):
    return check_compiler(build, "clang", 1)


def check_clang_free(build):
    return check_compiler(build, "clang", 0)


def check_locks(_):
    """What is acquired is released on every way out: in the checked and in the free build."""
    paths = sources((".c",), ("mm", "kernel"))
    analysis = ["-Wthread-safety", "-UDBG", "-fsyntax-only"]
    return run_each([["clang", *kernel_flags(path), *analysis, f"-DDBG={debug}", path]
                     for path in paths for debug in (0, 1)])


def check_cppcheck(_):
    hide_abi = "-UNTAPI"  # cppcheck does not see `noreturn` in front of another attribute
    # It takes what a pointer to a routine returns for an integer.
    hide_return = "--suppress=CastIntegerToAddressAtReturn:mm/iospace.c"
    return run(["cppcheck", "--quiet", "--std=c11", "--enable=warning,portability,performance",
                "--inline-suppr", "--suppress=missingInclude", "--suppress=*:kernel/ddk/*",
                hide_return, "--error-exitcode=1", "-D__x86_64__", hide_abi, *INCLUDES,
                *sources((".c",), ("mm",))])


def check_tidy(_):
    flags = [flag for flag in shlex.split(os.environ["CFLAGS"]) if not flag.startswith("-Werror")]
    tidy = ["clang-tidy", "--quiet", f"--checks={TIDY_CHECKS}", "--warnings-as-errors=*"]
    return run_each([[*tidy, path, "--", *flags, *INCLUDES] for path in sources((".c",), ("mm",))])


STEPS = (
    ("format (clang-format)", check_format),
    ("includes by floor", check_includes),
    ("each routine for drivers is exported", check_exports),
    ("each header alone", check_headers),
    ("gcc, warnings as errors", check_gcc),
    ("gcc, free build, warnings as errors", check_gcc_free),
    ("clang, warnings as errors", check_clang),
    ("clang, free build, warnings as errors", check_clang_free),
    ("locks (clang's analysis)", check_locks),
    ("cppcheck on mm", check_cppcheck),
    ("clang-tidy on mm", check_tidy),
)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default="build")
    build = parser.parse_args().build
    failed = 0
    for name, step in STEPS:
        good, output = step(build)
        print(f"{'pass' if good else 'FAIL'}  {name}", flush=True)
        if not good:
            failed += 1
            lines = output.splitlines()
            print("\n".join(f"      {line}" for line in lines[:FINDINGS_SHOWN]))
            if len(lines) > FINDINGS_SHOWN:
                print(f"      ... and {len(lines) - FINDINGS_SHOWN} lines more")
    print(f"{len(STEPS) - failed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
