#!/usr/bin/env python3
"""Compares the headers that drivers include here, kernel/ddk, with those of mingw-w64.

  compare.py [--build FOLDER]         kernel/ddk against mingw-w64 alone
  compare.py --kit [--build FOLDER]   against what drivers get: mingw-w64 behind kernel/kit

With --kit next to nothing may be missing: of exceptions.txt only what is no value counts, and
exceptions-kit.txt has the rest.

Everything that kernel/ddk declares becomes one line of C that yields a number: the value of a
constant, the size and the offset of a member, whether a routine has the prototype that it has here.
The same lines are compiled against both sets of headers, and the numbers must agree, line by line.
(The declarations come from the compiler: -aux-info for routines, debug information for types.)
Nothing is listed by hand but the samples of macros with arguments (samples.h) and the exceptions
(exceptions.txt), each with its reason; an exception that is needed no more is an error, too.

The last line is the sum: `ddk: N compared, N excepted, N failed`.
"""

# proves 1.2.1, 1.2.2: sizes of types, and prototypes, are those of the mingw-w64 DDK
# proves 1.3.1, 2.1.1, 2.4.1, 2.5.1, 2.6.1, 2.7.1, 2.8.1: constants are those of the mingw-w64 DDK
# proves 1.4.1, 1.4.2, 1.4.3, 1.4.4, 1.4.5: macros compute what those of the mingw-w64 DDK compute
# proves 3.1.1, 3.2.1, 3.3.1, 3.4.1, 18.26: sizes and offsets are those of the mingw-w64 DDK

import argparse
import fnmatch
import os
import re
import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
DDK = ROOT / "kernel" / "ddk"

# NT_PROCESSOR_GROUPS: resources as of Windows 7, with processor groups; the other word brings back the
# routines from before them, which the first hides.
FLAGS = ["-std=gnu11", "-O2", "-ffreestanding", "-w", "-fmax-errors=0", "-DINITGUID",
         "-DNT_PROCESSOR_GROUPS", "-DSINGLE_GROUP_LEGACY_API"]
OURS_EXTRA = ["-Wno-multichar", f"-I{DDK}"]
KIT_EXTRA = [f"-I{ROOT / 'kernel' / 'kit'}"]
HEADERS = {"ours": "<wdm.h>", "mingw": "<ntifs.h>", "kit": "<ntifs.h>", "programs": "<windows.h>"}
SIDE_HEADERS = ("<wdmguid.h>", "<ntdddisk.h>", "<ntddstor.h>")
# Annotations, and what no Windows has: not compared at all.
ONLY_OURS = ("sal.h", "ntddinet.h", "ntddivshmem.h", "ntddnet.h", "ntddnvme.h", "ntddstate.h",
             "resetddk.h")

SAMPLE = re.compile(r"^SAMPLE\((.*?)\)$(?=\s*(?:^SAMPLE|\Z))", re.DOTALL | re.MULTILINE)
AUX = re.compile(r"/\* (\S+):\d+:\w+ \*/ (extern|static) (.*?);(?: /\*.*)?$")
IN_FUNCTION = re.compile(r"In function '(?:Item)?(\w+)'")
NAME = re.compile(r"\b[A-Z]\w*")  # no word of C begins so
ERROR = re.compile(r"^(\S+?):(\d+):\d+: (?:fatal )?error: (.*)$")
RESULT = re.compile(r"^\s*->(\d+) \$?(-?\d+)")


def mingw_flags():
    """The DDK folder itself must be on the path: its headers include each other without "ddk/"."""
    path = subprocess.run(["x86_64-w64-mingw32-gcc", "-print-sysroot"], capture_output=True,
                          text=True, check=True).stdout.strip()
    for folder in (Path(path or "/"), Path("/usr/x86_64-w64-mingw32")):
        if (folder / "include" / "ddk" / "ntddk.h").exists():
            return [f"-I{folder / 'include' / 'ddk'}"]
    raise SystemExit("ddk: the headers of mingw-w64 are not installed")


#
# What kernel/ddk declares.
#


@dataclass
class Item:
    name: str  # what it is about, as the exceptions call it
    expression: str  # a constant, in C
    before: str = ""  # a declaration that it needs


def run(command, **options):
    return subprocess.run(command, capture_output=True, text=True,
                          env={**os.environ, "LC_ALL": "C"}, **options)


def includes(side):
    others = () if side == "programs" else SIDE_HEADERS
    return "".join(f"#include {header}\n" for header in (HEADERS[side], *others))


def is_compared(path):
    return Path(path).parent == DDK and Path(path).name not in ONLY_OURS


def macros(text):
    """(constants, macros with arguments) that kernel/ddk defines; names."""
    plain, with_arguments, here = {}, {}, False
    for line in text.splitlines():
        if match := re.match(r'# \d+ "([^"]*)"', line):
            here = is_compared(match[1])
        elif match := re.match(r"#define (\w+)(\(?)(.*)$", line):
            if here and not match[1].startswith("_"):
                (with_arguments if match[2] else plain)[match[1]] = match[3].strip()
    return plain, with_arguments


def macro_items(build):
    text = run(["gcc", *FLAGS, *OURS_EXTRA, "-E", "-dD", str(build / "ours.c")], check=True).stdout
    plain, with_arguments = macros(text)
    for name, body in plain.items():
        if body and body != name:
            yield Item(name, name)
    samples = [" ".join(text.split()) for text in SAMPLE.findall((HERE / "samples.h").read_text())]
    for sample in samples:
        yield Item(f"sample {sample}", sample)
    for name in with_arguments:
        if not any(re.search(rf"\b{name}\(", sample) for sample in samples):
            yield Item(name, f"no_sample_of_{name}")


def routine_items(build):
    run(["gcc", *FLAGS, *OURS_EXTRA, "-aux-info", str(build / "ours.aux"), "-c", "-o",
         str(build / "ours.o"), str(build / "ours.c"), "-g", "-fno-eliminate-unused-debug-types"],
        check=True)
    for line in (build / "ours.aux").read_text().splitlines():
        match = AUX.match(line)
        if not match or not is_compared(match[1]):
            continue
        routine = re.match(r"(.*?)(\w+) \((.*)\)$", match[3])
        # An inline routine has no calling convention of its own.
        convention = "NTAPI" if match[2] == "extern" else ""
        yield Item(routine[2], f"SAME({routine[2]}, As_{routine[2]})",
                   f"extern {routine[1]} {convention} As_{routine[2]}({routine[3]});")


@dataclass
class Die:
    """An entry of the debug information: a type, a member, a parameter."""
    tag: str
    values: dict = field(default_factory=dict)
    children: list = field(default_factory=list)

    @property
    def name(self):
        return self.values.get("name", "")


ENTRY = re.compile(r"^ *<(\d+)><([0-9a-f]+)>: Abbrev Number: \d+ \(DW_TAG_(\w+)\)")
VALUE = re.compile(r"^ +<[0-9a-f]+> +DW_AT_(\w+) *: (?:\(.*?\): )?(.*?)\s*$")


class Types:
    """The types of kernel/ddk, as the compiler saw them."""

    def __init__(self, object_file):
        self.at, self.top = {}, []
        stack = []
        dump = run(["readelf", "--debug-dump=info", str(object_file)], check=True).stdout
        for line in dump.splitlines():
            if match := ENTRY.match(line):
                die = Die(match[3])
                self.at[match[2]] = die
                del stack[int(match[1]):]
                (stack[-1].children if stack else self.top).append(die)
                stack.append(die)
            elif stack and (match := VALUE.match(line)):
                stack[-1].values[match[1]] = match[2]
        self.top = self.top[0].children

    def target(self, die):
        return self.at.get(die.values.get("type", "").strip("<>")[2:])

    def text(self, die):
        """A type as C writes it."""
        if die is None:
            return "void"
        if die.tag == "pointer_type":
            return f"{self.text(self.target(die))} *"
        if die.tag == "const_type":
            return f"{self.text(self.target(die))} const"
        words = {"structure_type": "struct ", "union_type": "union ", "enumeration_type": "enum "}
        return words.get(die.tag, "") + die.name

    def parameter_text(self, die):
        return self.text(self.target(die)) if die.tag == "formal_parameter" else "..."

    def members(self, die, prefix=""):
        """(path, DIE) of every member, those of nested structures included."""
        for member in die.children:
            if member.tag != "member":
                continue
            inner = self.target(member)
            path = f"{prefix}{member.name}" if member.name else ""
            if path:
                yield path, member
            if inner.tag in ("structure_type", "union_type") and not inner.name:
                yield from self.members(inner, f"{path}." if path else prefix)

    def items(self):
        for die in self.top:
            if die.tag == "typedef" and re.match(r"[A-Z]", die.name):
                yield from self.typedef_items(die, self.target(die))
            elif die.tag == "enumeration_type":
                for value in die.children:
                    yield Item(value.name, value.name)

    def typedef_items(self, die, inner):
        name = die.name
        if inner is None:
            return
        if inner.tag == "subroutine_type":
            yield self.routine_item(name, name, inner)
            return
        yield Item(f"sizeof({name})", f"sizeof({name})")
        if inner.tag == "base_type":
            yield Item(f"sign of {name}", f"({name})-1 < 0")
        elif inner.tag == "pointer_type":
            yield from self.pointer_items(name, self.target(inner))
        elif inner.tag in ("structure_type", "union_type"):
            for path, member in self.members(inner):
                full = f"{name}.{path}"
                if "bit_size" in member.values:
                    yield Item(full, f"(({{ union {{ {name} Whole; ULONG Bits; }} It; It.Bits = 0; "
                               f"It.Whole.{path} = -1; It.Bits; }}))")
                else:
                    yield Item(full, f"__builtin_offsetof({name}, {path}) * 0x10000 + "
                               f"sizeof((({name} *)0)->{path})")

    def routine_item(self, name, expression, routine):
        """Whether the expression has the type that the routine has here."""
        parameters = [self.parameter_text(child) for child in routine.children] or ["void"]
        return Item(name, f"SAME({expression}, As_{name})", f"extern "
                    f"{self.text(self.target(routine))} NTAPI As_{name}({', '.join(parameters)});")

    def pointer_items(self, name, inner):
        """A pointer to the type of that name; an integer's type may have another name there."""
        under = inner
        while under and under.tag in ("typedef", "const_type"):
            under = self.target(under)
        if under and under.tag == "subroutine_type":
            yield self.routine_item(name, f"*({name})0", under)
        elif under and under.tag == "base_type":
            yield Item(name, f"sizeof(*({name})0) * 2 + ((__typeof__(+*({name})0))-1 < 0)")
        else:
            yield Item(name, f"SAME({name}, {self.text(inner)} *)")


def guid_items():
    text = "".join((DDK / name).read_text() for name in ("wdmguid.h", "ntddstor.h", "ntdddisk.h"))
    for name in re.findall(r"DEFINE_GUID\(\s*(\w+)", text):
        for part in ("Data1", "Data2", "Data3", *(f"Data4[{index}]" for index in range(8))):
            yield Item(f"{name}.{part}", f"{name}.{part}")


def all_items(build):
    (build / "ours.c").write_text(includes("ours"))
    items = [*routine_items(build), *macro_items(build), *Types(build / "ours.o").items(),
             *guid_items()]
    return list({(item.name, item.expression): item for item in items}.values())


#
# Both compilers.
#

PROLOGUE = """
#undef SAME
#define SAME(Left, Right) __builtin_types_compatible_p(__typeof__(Left), __typeof__(Right))
"""


def line_of(number, item):
    """One line, so that an error of the compiler names the item."""
    return (f"{item.before} void Item{number}(void) {{ __asm__ volatile(\"\\n->{number} %0\" : : "
            f"\"i\"((long long)({item.expression}))); }}\n")


def errors_of(output, first):
    """{index of an item: what the compiler said}. An error in a header stands in the function of
    the item that used it; one in the items' own file stands in the item's line."""
    found, inside = {}, None
    for line in output.splitlines():
        if match := IN_FUNCTION.search(line):
            inside = int(match[1]) if match[1].isdigit() else None
        elif match := ERROR.match(line):
            number = int(match[2]) - first if match[1] == "items.c" else -1
            if number < 0:
                number = inside
            if number is None:
                raise SystemExit(f"ddk: {line}")
            found.setdefault(number, match[3])
    return found


def unknown_names(items, side, compiler, folder):
    """{index: sentence} of the items with a name that these headers do not have: the compiler would
    look for similar ones, and take its time."""
    (folder / "headers.c").write_text(includes(side))
    text = run([*compiler, *FLAGS, "-E", "-dD", "headers.c"], cwd=folder, check=True).stdout
    known = set(re.findall(r"\w+", text + PROLOGUE))
    found = {}
    for number, item in enumerate(items):
        own = set(re.findall(r"\w+", item.before))
        names = [] if "{" in item.expression else NAME.findall(item.expression)
        missing = [name for name in names if name not in known and name not in own]
        if missing:
            found[number] = f"{missing[0]} is not there"
    return found


def evaluate(side, compiler, items, build, skipped=()):
    """({index: number}, {index: what the compiler said}); of no interest are those skipped."""
    folder = build / side
    folder.mkdir(exist_ok=True)
    source = folder / "items.c"
    wrong = {**unknown_names(items, side, compiler, folder),
             **{number: "skipped" for number in skipped}}
    goal = ["-fsyntax-only"]  # quick; what only the assembler's constraints refuse comes after it
    while True:
        head = includes(side) + PROLOGUE
        first = head.count("\n") + 1
        source.write_text(head + "".join("\n" if number in wrong else line_of(number, item)
                                         for number, item in enumerate(items)))
        done = run([*compiler, *FLAGS, *goal, "items.c"], cwd=folder)
        new = errors_of(done.stderr, first)
        if done.returncode == 0 and "-S" in goal:
            break
        if done.returncode == 0:
            goal = ["-S", "-o", "-"]
            continue
        if not new or set(new) <= set(wrong):
            raise SystemExit(f"ddk: {side}: {done.stderr[:2000]}")
        wrong.update(new)
    values = {int(match[1]): int(match[2])
              for match in map(RESULT.match, done.stdout.splitlines()) if match}
    return values, wrong


#
# The verdict.
#


KINDS = ("newer", "missing", "differs", "text")


@dataclass
class Exemption:
    pattern: str
    reason: str
    uses: int = 0


def read_exceptions(name):
    """{kind: [Exemption]} of exceptions.txt, or of a file like it."""
    found = {kind: [] for kind in KINDS}
    for number, line in enumerate((HERE / name).read_text().splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        match = re.match(r"(\w+) (\S+(?: \S+)*?): (.+)$", line)
        if not match or match[1] not in KINDS:
            raise SystemExit(f"{name}:{number}: not `kind name: reason`")
        found[match[1]].append(Exemption(match[2], match[3]))
    return found


def exempt(exemptions, name):
    """Whether one of these lines names the item; the first that does is used."""
    for exemption in exemptions:
        if fnmatch.fnmatchcase(name, exemption.pattern.replace("[", "[[]")):
            exemption.uses += 1
            return True
    return False


def judge(item, number, ours, mingw):
    """(kind of exception that would excuse it, sentence), or None when all is well."""
    if number in ours[1]:
        return "text", f"{item.name}: no value here ({ours[1][number]})"
    if number in mingw[1]:
        return "missing", f"{item.name}: not there ({mingw[1][number]})"
    left, right = ours[0][number], mingw[0][number]
    if item.expression.startswith("SAME"):
        return None if left == right == 1 else (
            "differs", f"{item.name}: another type (here {left}, there {right})")
    if left != right:
        return "differs", f"{item.name}: 0x{left:x} here, 0x{right:x} there"
    return None


def add_programs(items, mingw, build):
    """mingw-w64 has exceptions, and requests of NVMe, in its headers for programs, which exclude
    those for drivers: what these headers declare and <ntddk.h> lacks is taken from there."""
    declared = set(re.findall(r"\w+", (DDK / "sehddk.h").read_text() +
                              (DDK / "ntddstor.h").read_text()))
    missing = [number for number in mingw[1]
               if set(re.findall(r"\w+", items[number].name)) & declared - {"sizeof"}]
    compiler = ["x86_64-w64-mingw32-gcc"]
    values, wrong = evaluate("programs", compiler, [items[number] for number in missing], build)
    for index, number in enumerate(missing):
        if index not in wrong:
            mingw[0][number] = values[index]
            del mingw[1][number]


def evaluate_ours(items, build, exemptions):
    """Those that are known to have no value are tried first and alone: the compiler tells of one at
    a time."""
    compiler = ["gcc", *OURS_EXTRA]
    uncounted = [replace(exemption) for exemption in exemptions]
    numbers = [number for number, item in enumerate(items) if exempt(uncounted, item.name)]
    _, wrong = evaluate("ours", compiler, [items[number] for number in numbers], build)
    known = {numbers[index]: text for index, text in wrong.items()}
    values, others = evaluate("ours", compiler, items, build, known)
    return values, {**others, **known}


def compare(build):
    """(compared, excepted, failures)"""
    build.mkdir(parents=True, exist_ok=True)
    items = all_items(build)
    exceptions = read_exceptions("exceptions.txt")
    ours = evaluate_ours(items, build, exceptions["text"])
    mingw = evaluate("mingw", ["x86_64-w64-mingw32-gcc", *mingw_flags()], items, build, ours[1])
    add_programs(items, mingw, build)
    compared, excepted, failures = 0, 0, []
    for number, item in enumerate(items):
        verdict = judge(item, number, ours, mingw)
        is_newer = exempt(exceptions["newer"], item.name)
        if is_newer and (verdict is None or verdict[0] != "missing"):
            failures.append(f"exceptions.txt: {item.name} is not newer: it is there")
        elif verdict is None:
            compared += 1
        elif is_newer or exempt(exceptions[verdict[0]], item.name):
            excepted += 1
        else:
            failures.append(f"{verdict[0]} {verdict[1]}")
    failures += [f"exceptions.txt: nothing needs `{kind} {exemption.pattern}` any more"
                 for kind, exemptions in exceptions.items() for exemption in exemptions
                 if not exemption.uses]
    return compared, excepted, failures


def compare_kit(build):
    """The same for what drivers get. An exception that is needed no more is an error here, too."""
    build.mkdir(parents=True, exist_ok=True)
    items = all_items(build)
    text, own = read_exceptions("exceptions.txt")["text"], read_exceptions("exceptions-kit.txt")
    ours = evaluate_ours(items, build, text)
    kit = evaluate("kit", ["x86_64-w64-mingw32-gcc", *KIT_EXTRA, *mingw_flags()], items, build,
                   ours[1])
    compared, excepted, failures = 0, 0, []
    for number, item in enumerate(items):
        verdict = judge(item, number, ours, kit)
        if verdict is None:
            compared += 1
        elif (verdict[0] == "text" and exempt(text, item.name)) or exempt(own[verdict[0]], item.name):
            excepted += 1
        else:
            failures.append(f"kit: {verdict[0]} {verdict[1]}")
    failures += [f"exceptions-kit.txt: nothing needs `{kind} {exemption.pattern}` any more"
                 for kind, exemptions in own.items() for exemption in exemptions
                 if not exemption.uses]
    return compared, excepted, failures


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default="build")
    parser.add_argument("--kit", action="store_true", help="compare with kernel/kit")
    arguments = parser.parse_args()
    build = Path(arguments.build).resolve() / ("kit" if arguments.kit else "ddk")
    compared, excepted, failures = (compare_kit if arguments.kit else compare)(build)
    print("\n".join(failures), end="\n" if failures else "")
    print(f"ddk: {compared} compared, {excepted} excepted, {len(failures)} failed")
    sys.exit(1 if failures or not compared else 0)


if __name__ == "__main__":
    main()
