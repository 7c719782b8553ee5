"""KTAP, the kernel's test protocol (version 1): reads results out of the lines of a serial port.

    KTAP version 1
    1..2
        KTAP version 1
        1..1
        ok 1 a_leaf_result
    ok 1 the_group
    not ok 2 another_leaf # comment

A result counts when it is a leaf. The line after a group sums the group up and is only compared
with it.
"""

import re
from dataclasses import dataclass, field

VERSION = re.compile(r"^(\s*)KTAP version 1\s*$")
PLAN = re.compile(r"^(\s*)1\.\.(\d+)\s*(?:#.*)?$")
RESULT = re.compile(r"^(\s*)(ok|not ok) (\d+)\s*(?:- )?([^#]*?)\s*(?:# *(SKIP|TODO)?\b.*)?$")
BAIL_OUT = re.compile(r"^\s*Bail out!\s*(.*)$")


@dataclass
class Block:
    indent: int
    planned: int = None
    seen: int = 0
    failed: int = 0


@dataclass
class Report:
    plans: int = 0
    passed: int = 0
    skipped: int = 0
    failures: list = field(default_factory=list)  # names of failed leaves
    errors: list = field(default_factory=list)  # what is wrong with the report itself


def parse(lines):
    """A Report. No plan line at all is an error, as is a block with more or fewer results."""
    report = Report()
    blocks = []
    started = False
    for line in lines:
        if match := BAIL_OUT.match(line):
            report.errors.append(f"the guest gave up: {match[1]}")
        elif match := VERSION.match(line):
            started = True
        elif started and (match := PLAN.match(line)):
            close_deeper(report, blocks, len(match[1]) - 1)
            blocks.append(Block(len(match[1]), int(match[2])))
            report.plans += 1
        elif started and (match := RESULT.match(line)):
            take_result(report, blocks, match)
    close_deeper(report, blocks, -1)
    if not started or not report.plans:
        report.errors.append("no KTAP plan line")
    return report


def take_result(report, blocks, match):
    indent, good, number, name = len(match[1]), match[2] == "ok", int(match[3]), match[4]
    groups = close_deeper(report, blocks, indent)
    if not blocks or blocks[-1].indent != indent:
        report.errors.append(f"a result without a plan line: {match[0].strip()}")
        blocks.append(Block(indent))
    block = blocks[-1]
    block.seen += 1
    if number != block.seen:
        report.errors.append(f"result {number} ({name}) where {block.seen} was due")
    if not good:
        block.failed += 1
    if groups:
        if good and any(group.failed for group in groups):
            report.errors.append(f"the group {name} says ok although a part of it failed")
    elif not good:
        report.failures.append(name)
    elif match[5] == "SKIP":
        report.skipped += 1
    else:
        report.passed += 1


def close_deeper(report, blocks, indent):
    """Ends every block that is indented more than `indent`; returns those blocks."""
    closed = []
    while blocks and blocks[-1].indent > indent:
        block = blocks.pop()
        closed.append(block)
        if block.planned is not None and block.planned != block.seen:
            report.errors.append(f"{block.seen} results where the plan says {block.planned}")
    return closed
