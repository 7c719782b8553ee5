#!/usr/bin/env python3
"""Keeps the documents in step with the sources.

  check_docs.py               tells what is out of date
  check_docs.py --write       brings it up to date (`make docs`)
  check_docs.py --ran FOLDER  also tells which tests of docs/coverage.md did not run and pass;
                              FOLDER is the build folder after `make test`

docs/coverage.md and docs/scenarios.md are made as a whole. In the pages of docs/api these comments ask for a block:
  <!-- prototypes: MmMapIoSpace MmFree* -->         as kernel/ddk declares them
  <!-- rules: 4.1 4.2 -->                           the clauses of these sections of the contract
  <!-- example: tests/examples/iospace.c -->        the file, which the self-tests run
Whatever stands between such a comment and the next <!-- end --> is replaced.

The last line is the sum: `docs: N checked, N failed`.
"""

import argparse
import fnmatch
import itertools
import re
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

import coverage_table
import scenario_table

ROOT = coverage_table.ROOT
PAGES = ROOT / "docs" / "api"
DDK = ROOT / "kernel" / "ddk"
README = PAGES / "README.md"
COLUMNS = 100

BLOCK = re.compile(r"(<!-- (prototypes|rules|example): ([^>]*?) -->\n)(.*?)(<!-- end -->)",
                   re.DOTALL)
ANNOTATION = re.compile(r"\b(_[A-Z]\w*_(?!\w)(\((?:[^()]|\([^()]*\))*\))?|NTAPI|FASTCALL|FORCEINLINE|"
                        r"DECLSPEC_NORETURN)\s*")
IRQL = re.compile(r"_IRQL_requires_max_\((\w+)\)")
ROUTINE = re.compile(r"(?:^|\n)([A-Za-z_][\w \n*]*?[ \n*])(\w+)\(([^;{}]*?)\)\s*(?=[;{])")
LINK = re.compile(r"\]\(([^)#:]+)\)")
# Headers whose every routine must stand on a page, and those of which only these families must.
WHOLE_HEADERS = ("mmddk.h", "except.h")
FAMILIES = re.compile(r"Ex(Allocate|Free)\w*Pool\w*")
# Where a comment without an IRQL means DISPATCH_LEVEL; other headers say it where it counts.
DISPATCH_HEADERS = (*WHOLE_HEADERS, "keddk.h", "sehddk.h", "dmaddk.h")
PLUMBING = re.compile(r"Km(Enter|Leave)Try")  # steps of a macro, not called by drivers


@dataclass
class Declaration:
    header: str
    text: str  # without annotations, on one line
    comment: list  # the lines above it


def declarations():
    """{routine: Declaration}; a comment belongs to the first routine below it, an annotation to the
    paragraph."""
    found = {}
    for path in sorted(DDK.glob("*.h")):
        for paragraph in re.split(r"\n\s*\n", path.read_text()):
            lines = paragraph.strip().splitlines()
            comment = list(itertools.takewhile(lambda line: line.startswith("//"), lines))
            code = "\n".join(line for line in lines if not line.startswith(("//", "#")))
            limit = IRQL.search(code)
            for result, name, parameters in ROUTINE.findall(ANNOTATION.sub("", code)):
                if "typedef" in result or "return" in result.split() or name in found:
                    continue
                words = " ".join(f"{result}{name}({parameters})".split())
                comment = [line for line in comment if not line.startswith("// --")]
                if "IRQL" not in " ".join(comment) and (limit or path.name in DISPATCH_HEADERS):
                    comment.append(f"// IRQL <= {limit[1] if limit else 'DISPATCH_LEVEL'}.")
                found[name] = Declaration(path.name, words.replace("( ", "("), comment)
                comment = []
    return found


def routines_of(patterns, known, errors):
    """The routines that a block asks for, those of one pattern in the order of the headers."""
    wanted = {}
    for pattern in patterns.split():
        found = [name for name in known if fnmatch.fnmatchcase(name, pattern)]
        if not found:
            errors.append(f"{pattern}: no header declares it")
        wanted.update(dict.fromkeys(found))
    return wanted


def prototype_block(names, known, errors):
    paragraphs = []
    for name in routines_of(names, known, errors):
        text = re.sub("(?<!,) ", "\0", known[name].text) + ";"  # no break but after a comma
        indent = " " * (text.index("(") + 1 if text.index("(") < COLUMNS // 2 else 4)
        lines = textwrap.wrap(text, COLUMNS, subsequent_indent=indent)
        paragraphs.append("\n".join([*known[name].comment, *lines]).replace("\0", " "))
    return "```c\n" + "\n\n".join(paragraphs) + "\n```\n"


def rule_block(sections, clauses, errors):
    lines = []
    for section in sections.split():
        wanted = {identity: clause for identity, clause in clauses.items()
                  if clause.heading.split()[0] == section}
        if not wanted:
            errors.append(f"the contract has no section {section}")
        for identity, clause in wanted.items():
            lines += textwrap.wrap(f"- **{identity}** {clause.rule}", 119, subsequent_indent="  ",
                                   break_on_hyphens=False, break_long_words=False)
    return "\n".join([*lines, ""])


def example_block(name, errors):
    path = ROOT / name
    if not path.exists():
        errors.append(f"there is no {name}")
        return ""
    return f"```c\n{path.read_text()}```\n"


def page_text(path, known, clauses, errors):
    """The page as it should be."""
    def fill(match):
        makers = {"prototypes": lambda text: prototype_block(text, known, errors),
                  "rules": lambda text: rule_block(text, clauses, errors),
                  "example": lambda text: example_block(text, errors)}
        return match[1] + makers[match[2]](match[3]) + match[5]
    return BLOCK.sub(fill, path.read_text())


def must_be_documented(name, header):
    return not PLUMBING.match(name) and (
        header in WHOLE_HEADERS or (header == "keddk.h" and FAMILIES.fullmatch(name)))


def gaps(texts, known):
    """Routines and examples that stand on no page, and links that lead nowhere."""
    everything = "\n".join(texts.values())
    shown = {name for block in BLOCK.finditer(everything) if block[2] == "prototypes"
             for name in routines_of(block[3], known, [])}
    for name, declaration in known.items():
        if must_be_documented(name, declaration.header) and name not in shown:
            yield f"{name} ({declaration.header}) stands on no page of docs/api"
    for path in sorted((ROOT / "tests" / "examples").glob("*.c")):
        if f"tests/examples/{path.name} -->" not in everything:
            yield f"tests/examples/{path.name} stands on no page of docs/api"
    for path, text in texts.items():
        for target in LINK.findall(text):
            if not (path.parent / target).exists():
                yield f"docs/api/{path.name}: the link to {target} leads nowhere"
        if path != README and f"({path.name})" not in texts.get(README, ""):
            yield f"docs/api/README.md does not name {path.name}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--ran", metavar="FOLDER")
    arguments = parser.parse_args()
    found = []
    clauses = coverage_table.collect(found)
    known = declarations()
    texts = {path: page_text(path, known, clauses, found) for path in sorted(PAGES.glob("*.md"))}
    if arguments.write:
        coverage_table.TABLE.write_text(coverage_table.text(clauses))
        scenario_table.TABLE.write_text(scenario_table.text())
        for path, text in texts.items():
            path.write_text(text)
        print(next(coverage_table.summary(clauses)))
    found += coverage_table.complaints(clauses)
    found += [f"docs/api/{path.name} is out of date: make docs"
              for path, text in texts.items() if text != path.read_text()]
    found += gaps(texts, known)
    found += scenario_table.complaints()
    if scenario_table.TABLE.read_text() != scenario_table.text():
        found.append("docs/scenarios.md is out of date: make docs")
    if arguments.ran:
        found += coverage_table.idle_tests(clauses, Path(arguments.ran))
    print("\n".join(found), end="\n" if found else "")
    blocks = sum(len(BLOCK.findall(text)) for text in texts.values())
    print(f"docs: {blocks + 2} checked, {len(found)} failed")  # and the two tables
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
