#!/usr/bin/env python3
"""`make driver SRC=...`: a driver's sources become a .sys image.

  makedriver.py --build FOLDER --output X.sys [options] SOURCE [-- FLAG...]

SOURCE is a folder or one .c file. Of a folder, every .c and .S in it is taken; if it has none, those of
its subfolder src, sys or driver. Headers are looked for beside each source, in the folder, in its
include and inc, and in inc beside it. A .inf goes along, beside the image. FLAGs (-I, -D, ...) go to
the compiler. Nothing is written into SOURCE.

What a compiler for Windows does with sources and gcc does not is done here: names of headers may
differ in case or contain backslashes.
"""

import argparse
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

KIT = Path(__file__).resolve().parent
TRIPLET = "x86_64-w64-mingw32"
SUFFIXES = (".c", ".S")
SOURCE_FOLDERS = (".", "src", "sys", "driver", "Driver", "Sys")
HEADER_FOLDERS = (".", "include", "inc", "../inc", "../include")
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"]+)[>"]', re.MULTILINE)
WORKERS = 2

# An undeclared routine would return an int and cut pointers off. Strings are of 16-bit characters and
# pragmas are Microsoft's; pool tags are written as 'abcd'.
FLAGS = ["-std=gnu11", "-O2", "-g", "-fms-extensions", "-fno-strict-aliasing", "-fno-common",
         "-fno-stack-protector", "-fno-ident", "-Wall", "-Wno-unknown-pragmas", "-Wno-multichar",
         "-Wno-missing-braces", "-Werror=implicit-function-declaration", "-Werror=return-type"]
STRICT = ["-Wextra", "-Werror", "-Wshadow", "-Wstrict-prototypes", "-Wmissing-prototypes"]
COMPILERS = {
    # gcc takes the [1] of PartialDescriptors for the end of every loop over List[0]'s, and offsets
    # into the KPCR, which mingw-w64's headers read through gs, for accesses to the null page.
    "gcc": ([f"{TRIPLET}-gcc"], ["-fno-aggressive-loop-optimizations",
                                 "--param=min-pagesize=0"]),
    # Plain memory accesses are covered by __try only with the last two, and not by every clang.
    "clang": (["clang", f"--target={TRIPLET}"],
              ["-Wno-unused-command-line-argument", "-Wno-microsoft", "-Wno-#warnings",
               "-Xclang", "-fasync-exceptions", "-Xclang", "-fexceptions"]),
}
CLANGS = ("clang-22", "clang-21", "clang-20", "clang-19", "clang")
PROBE = "int f(volatile int *p) { __try { return *p; } __except (1) { return 0; } }\n"
SCOPE_TABLE = ".seh_handlerdata"  # a count, and four words for each scope
SCOPE_WORDS = 5
LINK = ["-nostdlib", "-Wl,--subsystem,native", "-Wl,--entry,DriverEntry",
        "-Wl,--no-insert-timestamp", "-Wl,--dynamicbase,--nxcompat", "-Wl,--fatal-warnings",
        "-Wl,--exclude-all-symbols"]


class Refusal(Exception):
    """The driver cannot be built; the text says why, in words."""


class NoCompiler(Refusal):
    """There is no compiler that can."""


def find_clang():
    """The first clang with which __try covers plain memory accesses."""
    command, extra = COMPILERS["clang"]
    for name in CLANGS:
        if shutil.which(name):
            probe = [name, *command[1:], "-fms-extensions", "-O2", *extra, "-w", "-S", "-xc", "-",
                     "-o", "-"]
            done = subprocess.run(probe, input=PROBE, capture_output=True, text=True)
            if done.stdout.partition(SCOPE_TABLE)[2].count(".long") >= SCOPE_WORDS:
                return [name, *command[1:]]
    raise NoCompiler("no clang here covers memory accesses by __try: install clang-19, or a later one")


def run(command, what):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise Refusal(f"{done.stdout}{done.stderr}{what}")
    return done.stderr


def ddk_folder():
    """Its headers include each other without "ddk/", so the folder itself must be on the path."""
    for folder in (Path(f"/usr/{TRIPLET}/include/ddk"), Path("/usr/share/mingw-w64/include/ddk")):
        if (folder / "ntddk.h").exists():
            return folder
    raise Refusal("the headers of mingw-w64 are not installed: run tests/tools/setup.sh driver")


def find_sources(source):
    """(the driver's folder, its sources)"""
    if source.is_file():
        return source.parent, [source]
    if not source.is_dir():
        raise Refusal(f"{source} is neither a folder nor a file")
    for name in SOURCE_FOLDERS:
        found = sorted(path for path in (source / name).glob("*") if path.suffix in SUFFIXES)
        if found:
            return source, found
    raise Refusal(f"{source} has no .c and no .S file, and no src, sys or driver with one")


def header_folders(folder, sources):
    candidates = [path.parent for path in sources] + [folder / name for name in HEADER_FOLDERS]
    return list(dict.fromkeys(path.resolve() for path in candidates if path.is_dir()))


def find_spelling(name, folders):
    """The header's path, relative to one of the folders, as the file system spells it; or None."""
    words = name.replace("\\", "/").split("/")
    for folder in folders:
        path = folder
        for word in words:
            if word in (".", ".."):
                path = path / word
                continue
            entries = path.iterdir() if path.is_dir() else ()
            path = next((entry for entry in entries if entry.name.lower() == word.lower()), None)
            if path is None:
                break
        if path is not None and path.is_file():
            return path
    return None


def make_spellings(sources, own, system, folder):
    """Headers that are named in another spelling than they have: for each a header of that name."""
    files = [*sources, *(path for place in own for path in place.glob("*.[hH]"))]
    for path in files:
        for _, name in INCLUDE.findall(path.read_text(errors="replace")):
            exact = [path.parent, *own, *system]
            if any((place / name).is_file() for place in exact):
                continue
            real = find_spelling(name, exact)
            if real is None:
                continue
            target = next((f"<{real.relative_to(place)}>" for place in system
                           if real.is_relative_to(place)), f'"{real.resolve()}"')
            folder.mkdir(parents=True, exist_ok=True)
            spelling = folder / (name if "\\" in name else Path(name))
            spelling.parent.mkdir(parents=True, exist_ok=True)
            spelling.write_text(f"#include {target}\n")


def compile_all(arguments, sources, own, objects):
    ddk = ddk_folder()
    spellings = objects / "spellings"
    make_spellings(sources, own, [KIT, ddk, ddk.parent], spellings)
    compiler, extra = COMPILERS[arguments.compiler]
    if arguments.compiler == "clang":
        compiler = find_clang()
    root = own[0]
    flags = [*FLAGS, *extra, *(STRICT if arguments.strict else []),
             *(["-DDBG=1"] if arguments.checked == "1" else []), f"-ffile-prefix-map={root}=.",
             *(f"-I{folder}" for folder in own), f"-I{spellings}", f"-isystem{KIT}",
             f"-isystem{ddk}", f"-idirafter{ddk.parent}", *arguments.flags]

    def compile_one(source):
        target = objects / f"{source.name}.o"
        warnings = run([*compiler, *flags, "-c", "-o", str(target), str(source)],
                       f"{source}: does not compile")
        return target, warnings

    with ThreadPoolExecutor(WORKERS) as pool:
        results = list(pool.map(compile_one, sources))
    print("".join(warnings for _, warnings in results), end="", file=sys.stderr)
    return [str(target) for target, _ in results]


def import_library(build, objects):
    library = build / "libiospace.a"
    definition = build / "ntoskrnl.def"
    if not definition.exists():
        raise Refusal(f"{definition} does not exist: run make once")
    if not library.exists() or library.stat().st_mtime < definition.stat().st_mtime:
        new = objects / "libiospace.a"  # two drivers may be built at once
        run([f"{TRIPLET}-dlltool", "-m", "i386:x86-64", "-d", str(definition), "-l", str(new)],
            "the import library cannot be made")
        new.replace(library)
    return str(library)


UNDEFINED = re.compile(r"undefined reference to `(?:__imp_)?(\w+)'")


def link(arguments, objects, names):
    output = Path(arguments.output)
    # mingw-w64's libraries have what this kernel does not export: the loader says so by name.
    # The image with debug information stays with the objects.
    command = [f"{TRIPLET}-gcc", *LINK, *names, import_library(Path(arguments.build), objects),
               "-lntoskrnl", "-lhal", "-lgcc"]
    try:
        run([*command, "-o", str(objects / f"{output.name}.debug")], "")
        run([*command, "-s", "-o", str(output)], "")
    except Refusal as refusal:
        missing = sorted(set(UNDEFINED.findall(str(refusal))))
        if missing == ["DriverEntry"] or "cannot find entry symbol DriverEntry" in str(refusal):
            raise Refusal("the driver has no DriverEntry, where every driver begins") from None
        text = f"{refusal}{output.name} does not link"
        if missing:
            text += (f": neither this kernel nor the driver has {', '.join(missing)}")
        raise Refusal(text) from None


def take_inf(folder, output):
    """The driver's .inf, or the only one in the folder, beside the image under its name."""
    found = sorted(folder.glob("*.[iI][nN][fF]"))
    named = [path for path in found if path.stem.lower() == output.stem.lower()]
    target = output.with_suffix(".inf").resolve()
    if (named or len(found) == 1) and (named or found)[0].resolve() != target:
        shutil.copyfile((named or found)[0], target)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", required=True, help="where the kernel was built")
    parser.add_argument("--output", required=True)
    parser.add_argument("--compiler", choices=COMPILERS, default="gcc")
    parser.add_argument("--checked", choices=("0", "1"), default="1", help="DBG")
    parser.add_argument("--optional", action="store_true",
                        help="without a compiler for it, leave the driver out")
    parser.add_argument("--strict", action="store_true", help="as the kernel's own sources")
    parser.add_argument("source")
    parser.add_argument("flags", nargs="*")
    arguments = parser.parse_args()
    output = Path(arguments.output)
    objects = Path(arguments.build) / "driverobj" / output.stem
    objects.mkdir(parents=True, exist_ok=True)
    output.parent.mkdir(parents=True, exist_ok=True)
    folder, sources = find_sources(Path(arguments.source).resolve())
    try:
        names = compile_all(arguments, sources, header_folders(folder, sources), objects)
    except NoCompiler as reason:
        if not arguments.optional:
            raise
        print(f"{output.name} is left out: {reason}", file=sys.stderr)
        output.unlink(missing_ok=True)
        return
    link(arguments, objects, names)
    if Path(arguments.source).is_dir():
        take_inf(folder, output)


if __name__ == "__main__":
    try:
        main()
    except Refusal as refusal:
        sys.exit(str(refusal))
