"""The table of docs/coverage.md: each clause of docs/contract.md beside the tests that prove it.

A test names its clauses where it is listed:
  host    tests/host/t_*.c        HOST_ROW(Routine, "contract 4.1.1, 18.1", Machine)
  guest   tests/kernel/t_*.c      {"a sentence [4.1.1, 18.1]", Routine}
  boot    tests/qemu/bugchecks.py the code with its first parameter, and the seventh column
  build   tests/**/*.py           a line `# proves 1.2.1, 2.1.1: a sentence`
"""

import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CONTRACT = ROOT / "docs" / "contract.md"
TABLE = ROOT / "docs" / "coverage.md"

sys.path.insert(0, str(ROOT / "tests" / "qemu"))
import ktap  # noqa: E402
from bugchecks import DMA_BOUNCE_ROWS, DMA_ROWS, IO_ROWS, ROWS, VERIFIER_ROWS  # noqa: E402

CLAUSE = re.compile(r"^- \*\*([0-9][0-9A-Fa-fx./]*)\*\* (.*)$")
HEADING = re.compile(r"^(##+) (.*)$")
AN_ID = re.compile(r"^(?:\d+(?:\.\d+)+|0x[0-9A-F]+(?:/0x[0-9A-F]+)?)$")
STRINGS = re.compile(r'"((?:[^"\\]|\\.)*)"')
HOST_ROW = re.compile(r'HOST_ROW\(\s*(\w+),\s*((?:"(?:[^"\\]|\\.)*"\s*)+),')
GUEST_ARRAY = re.compile(r"static const KT_TEST \w+\[\] = \{(.*?)\n\};", re.DOTALL)
GUEST_ROW = re.compile(r'\{\s*((?:"(?:[^"\\]|\\.)*"\s*)+),\s*\w+\s*\}')
BRACKETS = re.compile(r"^(.*?) \[([^\]]*)\]$")
PROVES = re.compile(r"^\s*# proves ([^:]+): (.*)$")

KINDS = {
    "host": "an ordinary program, under sanitizers",
    "guest": "a self-test in the kernel",
    "boot": "a boot that must end in just this bug check",
    "build": "a check of the sources, or of what was built",
}


@dataclass
class Clause:
    rule: str
    heading: str
    proofs: list = field(default_factory=list)  # of Proof


@dataclass(frozen=True)
class Proof:
    kind: str
    place: str  # the file without its folder
    name: str
    ids: tuple


def text_of(literals):
    return "".join(STRINGS.findall(literals))


def ids_in(text):
    """What has the form of an id; other words, as names of invariants, may stand beside them."""
    return tuple(word for word in re.split(r"[,;\s]+", text) if AN_ID.match(word))


def read_clauses(errors):
    clauses, heading, last = {}, "", None
    for line in CONTRACT.read_text().splitlines():
        if match := HEADING.match(line):
            heading, last = match[2], None
        elif match := CLAUSE.match(line):
            if match[1] in clauses:
                errors.append(f"contract.md: clause {match[1]} stands there twice")
            last = clauses[match[1]] = Clause(match[2], heading)
        elif last and line.startswith("  "):
            last.rule += " " + line.strip()
        else:
            last = None
    return clauses


def host_proofs():
    for path in sorted((ROOT / "tests" / "host").glob("t_*.c")):
        for routine, clauses in HOST_ROW.findall(path.read_text()):
            clauses = text_of(clauses)
            if clauses.startswith("contract "):
                yield Proof("host", path.stem, routine, ids_in(clauses))


def guest_proofs():
    for path in sorted((ROOT / "tests" / "kernel").glob("t_*.c")):
        for array in GUEST_ARRAY.findall(path.read_text()):
            for literals in GUEST_ROW.findall(array):
                if match := BRACKETS.match(text_of(literals)):
                    yield Proof("guest", path.stem, match[1], ids_in(match[2]))


def boot_proofs(clauses):
    for name, code, *columns in (*ROWS, *VERIFIER_ROWS, *DMA_ROWS, *DMA_BOUNCE_ROWS,
                                *IO_ROWS):
        codes = (f"0x{code:02X}/0x{columns[0]:02X}" if isinstance(columns[0], int) else "",
                 f"0x{code:02X}")
        own = [identity for identity in codes if identity in clauses]
        others = ids_in(columns[4]) if len(columns) > 4 else ()
        yield Proof("boot", "bugchecks", name, (*own[:1], *others))


def build_proofs():
    for path in sorted((ROOT / "tests").rglob("*.py")):
        for line in path.read_text().splitlines():
            if (match := PROVES.match(line)) and ids_in(match[1]):
                yield Proof("build", path.stem, match[2], ids_in(match[1]))


def report_doubles(proofs, errors):
    """A log says only the name, so two tests of one kind must not share it."""
    places = {}
    for proof in proofs:
        other = places.setdefault((proof.kind, proof.name), proof.place)
        if proof.kind != "build" and other != proof.place:
            errors.append(f"{other} and {proof.place} both have a test \"{proof.name}\"")


def collect(errors):
    """{id: Clause}, each with its proofs."""
    clauses = read_clauses(errors)
    proofs = [*host_proofs(), *guest_proofs(), *boot_proofs(clauses), *build_proofs()]
    report_doubles(proofs, errors)
    for proof in proofs:
        for identity in dict.fromkeys(proof.ids):
            if identity in clauses:
                clauses[identity].proofs.append(proof)
            else:
                errors.append(f"{proof.place}: \"{proof.name}\" names clause {identity}, "
                              "which contract.md does not have")
    return clauses


#
# The table.
#


def cell(text):
    return text.replace("|", "\\|")


def proof_text(proof):
    name = proof.name.replace("_", " ") if proof.kind == "host" else proof.name
    return f"{proof.kind}: {proof.place}: {cell(name)}"


def summary(clauses):
    empty = [identity for identity, clause in clauses.items() if not clause.proofs]
    yield f"{len(clauses)} clauses, {len(clauses) - len(empty)} with a test, {len(empty)} without."
    yield ""
    yield "| how | what it is | clauses |"
    yield "|---|---|--:|"
    for kind, meaning in KINDS.items():
        count = sum(any(proof.kind == kind for proof in clause.proofs)
                    for clause in clauses.values())
        yield f"| {kind} | {meaning} | {count} |"
    yield ""
    yield f"Without a test: {', '.join(empty) if empty else 'none'}."


def table(clauses):
    yield "# Which test proves which clause"
    yield ""
    yield "Made by `make docs` from [contract.md](contract.md) and the tests' own sources; not to"
    yield "be edited. `make test` fails when it is out of date, and when a test that stands here"
    yield "did not run and pass."
    yield ""
    yield from summary(clauses)
    heading = None
    for identity, clause in clauses.items():
        if clause.heading != heading:
            heading = clause.heading
            yield from ("", f"## {heading}", "")
            yield from ("| clause | rule | how | tests |", "|---|---|---|---|")
        how = ", ".join(kind for kind in KINDS if any(p.kind == kind for p in clause.proofs))
        tests = "<br>".join(proof_text(proof) for proof in clause.proofs)
        yield f"| {identity} | {cell(clause.rule)} | {how or '**none**'} | {tests} |"


def text(clauses):
    return "\n".join(table(clauses)) + "\n"


#
# Whether the tests of the table ran.
#


def passed_names(lines):
    """Names of the leaves that said ok and were not skipped."""
    for line in lines:
        match = ktap.RESULT.match(line)
        if match and match[1] and match[2] == "ok" and match[5] != "SKIP":
            yield match[4]


def idle_tests(clauses, build):
    """Tests of the table that passed nowhere. Boots and checks of sources fail by themselves."""
    logs = {"guest": build.glob("logs/[!m]*.log"),  # not of mutants
            "host": build.glob("host/*.ktap")}
    passed = {kind: set() for kind in logs}
    for kind, paths in logs.items():
        for path in paths:
            for name in passed_names(path.read_text(errors="replace").splitlines()):
                found = BRACKETS.match(name)
                passed[kind].add(found[1] if found else name)
    proofs = dict.fromkeys(proof for clause in clauses.values() for proof in clause.proofs)
    return [f"{proof.place}: \"{proof.name}\" passed on no machine" for proof in proofs
            if proof.kind in passed and proof.name not in passed[proof.kind]]


def complaints(clauses):
    """What is wrong with the kept table; one sentence each."""
    if not TABLE.exists() or TABLE.read_text() != text(clauses):
        return ["docs/coverage.md is out of date: make docs"]
    return []
