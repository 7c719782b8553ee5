#!/usr/bin/env python3
"""The kernel's exports, from the one list of them (kernel/ldr/exports.txt).

  makeexports.py table LIST      the kernel's table, as assembler code: sorted by name, so that the
                                 loader can search it
  makeexports.py library LIST    the .def file of which dlltool makes the drivers' import library
  makeexports.py verify LIST NM  whether the linked kernel has what the list names; NM is what `nm`
                                 prints of it
  makeexports.py headers LIST DDK...  whether the list has every routine that drivers may call: those
                                 that the headers declare NTAPI without a body

Complaints name the line of the list. The last command's sum is `exports: N checked, N failed`.
"""

import re
import sys
from dataclasses import dataclass
from pathlib import Path

LINE = re.compile(r"(?P<data>data\s+)?(?P<name>[A-Za-z_]\w*)(?:\s*=\s*(?P<symbol>[A-Za-z_]\w*))?")
COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
DIRECTIVE = re.compile(r"^[ \t]*#(?:[^\n\\]|\\\n|\\.)*", re.MULTILINE)
PROTOTYPE = re.compile(r"\b(?:NTAPI|FASTCALL)\s+([A-Za-z_]\w*)\s*\(")


class Refusal(Exception):
    """The list or the tree is wrong; the text says where and how."""


@dataclass(frozen=True)
class Export:
    name: str
    symbol: str  # of the kernel
    is_data: bool
    where: str  # "exports.txt:12"


def parse(text, source="exports.txt"):
    """The exports, ascending by the bytes of their names. Raises Refusal with every wrong line."""
    found, wrong = {}, []
    for number, line in enumerate(text.splitlines(), 1):
        line = line.split("#")[0].strip()
        where = f"{source}:{number}"
        match = LINE.fullmatch(line)
        if not line:
            continue
        if not match:
            wrong.append(f"{where}: '{line}' is not `Name`, `Name = Symbol` or `data Name`")
        elif match["name"] in found:
            wrong.append(f"{where}: {match['name']} is exported by {found[match['name']].where} "
                         "already")
        else:
            found[match["name"]] = Export(match["name"], match["symbol"] or match["name"],
                                          bool(match["data"]), where)
    if wrong:
        raise Refusal("\n".join(wrong))
    return sorted(found.values(), key=lambda export: export.name.encode())


def read(path):
    return parse(Path(path).read_text(), str(path))


def table(exports):
    """Symbols are weak, so that a missing one is reported by `verify`, with the line of the list."""
    lines = ["// Made by kernel/ldr/makeexports.py of kernel/ldr/exports.txt.", "",
             "    .section .rodata.exports, \"a\", @progbits", "    .balign 8",
             "    .globl LdrpExports, LdrpExportCount", "LdrpExports:"]
    for index, export in enumerate(exports):
        lines += [f"    .weak {export.symbol}", f"    .quad .L{index}, {export.symbol}"]
    lines += ["LdrpExportCount:", f"    .long {len(exports)}"]
    for index, export in enumerate(exports):
        lines.append(f".L{index}: .asciz \"{export.name}\"")
    return "\n".join([*lines, "    .section .note.GNU-stack, \"\", @progbits", ""])


def library(exports):
    lines = ["; Made by kernel/ldr/makeexports.py of kernel/ldr/exports.txt.",
             "LIBRARY ntoskrnl.exe", "EXPORTS"]
    lines += [f"    {export.name}{' DATA' if export.is_data else ''}" for export in exports]
    return "\n".join([*lines, ""])


def verify(exports, symbols):
    """symbols: {name: letter of nm}"""
    for export in exports:
        kind = symbols.get(export.symbol, "w")
        if kind in "wvU":
            yield f"{export.where}: {export.name}: the kernel defines no {export.symbol}"
        elif export.is_data == (kind in "Tt"):
            yield (f"{export.where}: {export.symbol} is a {'function' if export.is_data else 'variable'}"
                   f": write it {'without' if export.is_data else 'with'} `data`")


def symbols_of(text):
    words = (line.split() for line in text.splitlines())
    return {word[-1]: word[-2] for word in words if len(word) >= 2}


def end_of_parentheses(text, start):
    """Behind the parenthesis that closes the one at start."""
    depth = 0
    for index in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[index], 0)
        if depth == 0:
            return index + 1
    return len(text)


def blank(match):
    return "\n" * match[0].count("\n")


def routines(text):
    """(name, line) of what a header declares NTAPI without a body."""
    text = DIRECTIVE.sub(blank, COMMENT.sub(blank, text))
    for match in PROTOTYPE.finditer(text):
        if text[end_of_parentheses(text, match.end() - 1):].lstrip()[:1] in (";", "_"):
            yield match[1], text.count("\n", 0, match.start()) + 1


def headers(exports, paths):
    names = {export.name for export in exports}
    for path in paths:
        for name, line in routines(Path(path).read_text()):
            if name not in names:
                yield f"{path}:{line}: drivers may call {name}, but exports.txt does not have it"


def main(arguments):
    command, exports = arguments[0], read(arguments[1])
    if command == "table":
        print(table(exports), end="")
        return 0
    if command == "library":
        print(library(exports), end="")
        return 0
    if command == "verify":
        found = list(verify(exports, symbols_of(Path(arguments[2]).read_text())))
    else:
        found = list(headers(exports, arguments[2:]))
        print(f"exports: {len(exports)} checked, {len(found)} failed")
    print("\n".join(found), end="\n" if found else "", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except Refusal as refusal:
        sys.exit(str(refusal))
