"""Judges one row: what the guest did against what the table expects."""

import re
from dataclasses import dataclass, field

import guest
import ktap
from bugchecks import ANNOUNCED, ANY

STOP_LINE = re.compile(
    r"^\*\*\* STOP 0x([0-9A-Fa-f]{8}) "
    r"\(0x([0-9A-Fa-f]{16}), 0x([0-9A-Fa-f]{16}), 0x([0-9A-Fa-f]{16}), 0x([0-9A-Fa-f]{16})\)")
PARAMETER_LINE = re.compile(r"^# param ([1-4]) 0x([0-9A-Fa-f]+)")
LINES_SHOWN = 12


@dataclass
class Verdict:
    passed: int = 0
    skipped: int = 0
    failures: list = field(default_factory=list)  # one sentence each
    notes: list = field(default_factory=list)  # shown in any case
    tail: list = field(default_factory=list)  # the last lines of the guest, when something failed

    def check(self, is_good, complaint):
        """One check with a sentence for when it fails."""
        if is_good:
            self.passed += 1
        else:
            self.failures.append(complaint)

    def add(self, other):
        self.passed += other.passed
        self.skipped += other.skipped
        self.failures += other.failures
        self.notes += other.notes

    def expect_complaints(self, patterns):
        """Turns the failures that were meant into checks: each pattern must have one, each failure a
        pattern."""
        meant = [any(re.search(pattern, failure) for pattern in patterns)
                 for failure in self.failures]
        missed = [pattern for pattern in patterns
                  if not any(re.search(pattern, failure) for failure in self.failures)]
        self.passed += sum(meant)
        self.failures = [failure for failure, was_meant in zip(self.failures, meant, strict=True)
                         if not was_meant]
        self.failures += [f"nobody complained: '{pattern}'" for pattern in missed]
        self.tail = self.tail if self.failures else []


def judge(row, outcome, crc):
    verdict = Verdict()
    judge_end(verdict, row, outcome)
    judge_stop(verdict, row, outcome)
    if row.floor:
        judge_self_tests(verdict, row, outcome)
    for pattern in row.patterns:
        expression = pattern.replace("{crc}", crc)
        verdict.check(any(re.search(expression, line) for line in outcome.lines),
                      f"no line matches '{expression}'")
    for line in outcome.device_log:
        if not any(re.search(allowed, line) for allowed in row.allowed):
            verdict.failures.append(f"QEMU says: {line}")
    if verdict.failures:
        verdict.tail = [line for line in outcome.lines if line.strip()][-LINES_SHOWN:]
    return verdict


def judge_end(verdict, row, outcome):
    if not any(line.strip() for line in outcome.lines):
        verdict.failures.append("the guest said nothing")
    if outcome.timed_out:
        verdict.failures.append(f"the guest did not end within {row.timeout} s")
    elif outcome.status not in (row.status if isinstance(row.status, tuple) else (row.status,)):
        meaning = guest.STATUS_NAMES.get(outcome.status, outcome.errors or "not by itself")
        verdict.failures.append(
            f"ended with status {outcome.status} ({meaning}), expected {row.status}")


def judge_stop(verdict, row, outcome):
    stops = [match for match in map(STOP_LINE.match, outcome.lines) if match]
    if row.stop is None:
        verdict.failures += [f"bug check: {match[0]}" for match in stops]
        return
    if len(stops) != 1:
        verdict.failures.append(f"{len(stops)} bug checks, expected one")
        return
    announced = {int(match[1]): int(match[2], 16)
                 for match in map(PARAMETER_LINE.match, outcome.lines) if match}
    code, *parameters = (int(text, 16) for text in stops[0].groups())
    verdict.check(code == row.stop.code, f"bug check 0x{code:X}, expected 0x{row.stop.code:X}")
    pairs = zip(parameters, row.stop.parameters, strict=True)
    for number, (value, expected) in enumerate(pairs, 1):
        if expected == ANY:
            continue
        if expected == ANNOUNCED:
            expected = announced.get(number)
        wanted = "the guest announced none" if expected is None else f"expected 0x{expected:X}"
        verdict.check(value == expected, f"parameter {number} is 0x{value:X}; {wanted}")


def judge_self_tests(verdict, row, outcome):
    report = ktap.parse(outcome.lines)
    verdict.passed += report.passed
    verdict.skipped += report.skipped
    verdict.failures += [f"not ok: {name}" for name in report.failures]
    verdict.failures += report.errors
    if report.passed < row.floor:
        verdict.failures.append(f"only {report.passed} checks passed, at least {row.floor} must")
