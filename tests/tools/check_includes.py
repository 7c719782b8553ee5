#!/usr/bin/env python3
"""Checks which part of the tree includes which: the floors of the house, as a table.

A folder may include what its row names and nothing else. Also: mm's code holds no word of the x86
page-table format, which belongs to arch/x64/mm. Prints each violation; ends with status 0 when
there is none.
"""

import re
import sys
from pathlib import Path

DDK = "<(" + "|".join(path.stem for path in Path("kernel/ddk").glob("*.h")) + r")\.h>"
COMPILER = r"<(stdint|stddef|stdarg|stdbool)\.h>"
CONTRACTS = r'"kernel/inc/(?!io\.h)\w+\.h"'
IO_CONTRACT = r'"kernel/inc/io\.h"'
MM_NEEDS = r'"kernel/inc/(ke|kd|rtl|loader|checked|bugcodes)\.h"'

# (files, what they may include). The first row that matches a file's path counts.
FLOORS = (
    (r"kernel/ddk/", (DDK, COMPILER)),
    (r"kernel/kit/", (r"<\w+\.h>", r'"\.\./ddk/\w+\.h"')),  # in front of mingw-w64's headers
    (r"kernel/inc/io\.h$", (DDK, CONTRACTS, r'"mm/mm\.h"')),
    (r"kernel/inc/kearch\.h$", (DDK, r"<kearchinline\.h>")),
    (r"kernel/inc/", (DDK, COMPILER, CONTRACTS)),
    (r"mm/miarch\.h$", (DDK, r"<miarchinline\.h>")),
    (r"mm/mm\.h$", (DDK,)),
    (r"mm/", (DDK, MM_NEEDS, r'"mm/\w+\.h"')),
    (r"arch/x64/", (DDK, COMPILER, CONTRACTS, r'"arch/x64/(mm/)?\w+\.h"', r'"mm/miarch\.h"')),
    (r"boot/", (DDK, r'"kernel/inc/(ke|kearch|loader|rtl)\.h"')),
    (r"kernel/(ke|rtl|kd)/", (DDK, COMPILER, CONTRACTS)),
    (r"kernel/runtime/", (DDK, CONTRACTS, r'"kernel/runtime/\w+\.(h|inc)"')),
    (r"kernel/(io|ldr|ps|ob|ex|cm|po)/",
     (DDK, CONTRACTS, IO_CONTRACT, r'"mm/mm\.h"', r'"kernel/(io|ldr|ps|ob|ex|cm|po)/\w+\.h"')),
    (r"kernel/\w+\.[ch]$",
     (DDK, COMPILER, CONTRACTS, IO_CONTRACT, r'"mm/mm\.h"', r'"kernel/\w+\.h"')),
    (r"drivers/", (DDK, r'"\w+\.h"')),
    (r"tests/examples/", (DDK, r'"examples\.h"')),
    (r"tests/kernel/benchmany\.c$",  # measures what mm decides by
     (DDK, CONTRACTS, r'"mm/mi\.h"', r'"tests/kernel/\w+\.h"')),
    (r"tests/kernel/",
     (DDK, COMPILER, CONTRACTS, IO_CONTRACT, r'"mm/mm\.h"', r'"tests/(kernel|examples|drivers/\w+)/\w+\.h"',
      r'"drivers/\w+/\w+spec\.h"')),  # what devices say is no secret of their driver
)

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"][^>"]*[>"])')
COMMENT = re.compile(r'//.*|/\*.*?\*/|"(?:[^"\\]|\\.)*"')
X86_WORDS = re.compile(r"\b(PAT|PCD|PWT|PML4\w*|CR3|INVLPG|[Ii]nvlpg|_PAGE_\w+|0x80)\b"
                       r"|1[uU]?[lL]*\s*<<\s*(12|63)\b")
FOLDERS = ("arch", "boot", "drivers", "kernel", "mm", "tests/kernel", "tests/examples")


def source_files():
    for folder in FOLDERS:
        yield from sorted(path for path in Path(folder).rglob("*")
                          if path.suffix in (".c", ".h", ".S"))


def allowed_by_floor(path):
    for pattern, allowed in FLOORS:
        if re.match(pattern, str(path)):
            return allowed
    return ()


def violations(path):
    allowed = allowed_by_floor(path)
    for number, line in enumerate(path.read_text().splitlines(), 1):
        match = INCLUDE.match(line)
        if match and not any(re.fullmatch(pattern, match[1]) for pattern in allowed):
            yield f"{path}:{number}: must not include {match[1]}"
        elif path.parts[0] == "mm" and (word := X86_WORDS.search(COMMENT.sub("", line))):
            yield f"{path}:{number}: '{word[0]}' belongs to arch/x64/mm"


def main():
    found = [text for path in source_files() for text in violations(path)]
    print("\n".join(found), end="\n" if found else "")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
