#!/usr/bin/env python3
"""Runs everything that proves the tree: host tests, the table of machines, scenarios, mutations.
The last line is the sum.

  run.py --build FOLDER             everything that `make test` runs
  run.py --build FOLDER --wide      more machines
  run.py --build FOLDER --only RE   only what has a name that RE matches
  run.py --soak SECONDS             the random workloads of disks, each for so long
  run.py --list                     the names

Logs, one for each row, go to FOLDER/logs.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Callable, NamedTuple

import guest
import mutations
import shared as shared_memory
from images import ImageStore, test_drivers
from machines import ALL_MACHINES
from oracle import Oracle
from scenarios import SCENARIOS
from verdict import Verdict, judge

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))
from mkdisk import ensure_disk  # noqa: E402

WORKERS = 3  # some rows wait for timers
SCRIPT_SECONDS = 300
FAILURES_SHOWN = 12
HOST_SUM = re.compile(r"^host: (\d+) passed, (\d+) failed")
SCRIPT_SUM = re.compile(r"^\w+: (\d+) \w+, (?:\d+ excepted, )?(\d+) failed")
HOST_COVERAGE = re.compile(r"^ *mm in total .*%")
HOST_LINES_SHOWN = 20

# A damaged kernel may hang, which is noticed, too; a few suites take a few seconds.
MUTANT_SECONDS = 40


class Runner:
    def __init__(self, build):
        self.build = Path(build).resolve()
        self.logs = self.build / "logs"
        self.logs.mkdir(parents=True, exist_ok=True)
        self.disk = self.build / "disk.img"
        self.crc = ensure_disk(self.disk)
        self.images = ImageStore(self.build / "iospace", self.build / "images")
        self.free_images = None
        self.free_lock = threading.Lock()
        self.mutant_tree = {}

    def forget_logs(self):
        """So that what ran once does not count for what runs now."""
        for log in self.logs.glob("*.log"):
            log.unlink()

    def free_kernel_images(self):
        """Of the kernel without asserts, which is built when the first row wants it."""
        with self.free_lock:
            if self.free_images is None:
                folder = self.build / "free"
                good, output = mutations.run_make(mutations.ROOT, folder, "all", "DBG=0")
                if not good:
                    raise RuntimeError(f"the free kernel cannot be built: {output[-500:]}")
                self.free_images = ImageStore(folder / "iospace", folder / "images")
        return self.free_images

    def images_for(self, row):
        return self.free_kernel_images() if row.is_free else self.images

    def run_machine(self, row, images=None, log_name=None):
        images = images or self.images_for(row)
        name = log_name or row.name
        image = images.get(row.door, row.command_line, test_drivers(images.kernel, row.drivers))
        log = self.logs / f"{name}.log"
        if row.emulator == "bochs":
            outcome = guest.run_bochs(image, row.timeout, log, row.cpu, row.processors)
            return judge(row, outcome, self.crc)
        if row.host is None:
            verdict = self.run_guest(row, image, log, None)
        else:
            verdict = self.run_with_host(row, image, log)
        if row.complaints:
            verdict.expect_complaints(row.complaints)
        return verdict

    def run_with_host(self, row, image, log):
        """What the host made is kept only when something failed."""
        folder = self.build / "hosts" / log.stem
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        host = row.host(folder)
        try:
            host.prepare()
            verdict = self.run_guest(row, image, log, host)
        finally:
            host.close()
        if not verdict.failures:
            shutil.rmtree(folder)
        return verdict

    def run_guest(self, row, image, log, host):
        oracle = Oracle() if row.oracle else None
        shared = self.build / f"shared-{log.stem}.img" if row.shares_memory else None
        if shared:
            shared_memory.create(shared)
        devices = [argument.format(disk=self.disk, shared=shared, folder=host and host.folder)
                   for argument in row.devices]
        command = guest.qemu_command(row, (row.door, image), devices)
        outcome = guest.run_qemu(command, row.timeout, log, oracle and oracle.listen, host,
                                 row.traces)
        verdict = judge(row, outcome, self.crc)
        if oracle:
            verdict.add(oracle.finish())
        if host:
            verdict.add(host.finish(outcome))
        if shared:
            count, wrong = shared_memory.complaints(shared)
            verdict.check(not wrong, "; ".join(wrong))
            verdict.notes.append(f"{count} words of shared memory, {len(wrong)} complaints")
        return verdict

    def run_host_tests(self):
        """The host tests are a program of their own; its last line is a sum like ours."""
        good, output = mutations.run_make(mutations.ROOT, self.build, "host-test")
        (self.logs / "host.log").write_text(output)
        sums = [match for match in map(HOST_SUM.match, output.splitlines()) if match]
        verdict = Verdict()
        if sums:
            verdict.passed = int(sums[-1][1])
        if not good or not sums or int(sums[-1][2]):
            what = "did not pass" if sums else "gave no sum"
            verdict.failures.append(f"the host tests {what}")
            verdict.tail = output.splitlines()[-HOST_LINES_SHOWN:]
        covered = [match for match in map(HOST_COVERAGE.match, output.splitlines()) if match]
        verdict.check(covered, "the host tests did not say how much of mm they run")
        verdict.notes = [f"coverage: {' '.join(match[0].split())}" for match in covered]
        return verdict

    def run_script(self, script, *arguments):
        """A program that compares sources; its last line is a sum, what it finds stands above."""
        arguments = [argument.format(build=self.build) for argument in arguments]
        done = subprocess.run([sys.executable, mutations.ROOT / script, *arguments],
                              capture_output=True, text=True, timeout=SCRIPT_SECONDS)
        lines = (done.stdout + done.stderr).splitlines()
        match = SCRIPT_SUM.match(lines[-1]) if lines else None
        verdict = Verdict(passed=int(match[1]) if match else 0)
        verdict.failures = lines[:-1] if match and int(match[2]) else []
        if not match or (done.returncode and not verdict.failures):
            verdict.failures = lines[-FAILURES_SHOWN:] or [f"{script} said nothing"]
        return verdict

    def run_mutation(self, mutation):
        kind = kind_of_mutant(mutation)
        if kind not in self.mutant_tree:
            self.mutant_tree[kind] = mutations.MutantTree(
                self.build / "mutants" / kind, self.build if kind == "guest" else None)
        complaint = mutations.try_mutation(self.mutant_tree[kind], mutation, self.suite_fails)
        verdict = Verdict()
        verdict.check(complaint is None, complaint)
        return verdict

    def suite_fails(self, tree, mutation):
        if mutation.suite == mutations.HOST:
            return not tree.run_host_tests(mutation.filter)
        row = next(row for row in ALL_ROWS if row.name == mutation.suite)
        if row.emulator == "qemu":  # Bochs takes a while to start
            row = replace(row, timeout=MUTANT_SECONDS)
        if mutation.filter:
            options = re.sub(r" ?\bfilter=\S+", "", row.options)
            row = replace(row, options=f"{options} filter={mutation.filter}", floor=1,
                          oracle=False)
        name = re.sub(r"\W+", "-", mutation.name)
        images = ImageStore(tree.kernel, tree.folder / mutations.BUILD / "images")
        return bool(self.run_machine(row, images, f"mutant-{name}").failures)


def kind_of_mutant(mutation):
    return "host" if mutation.suite == mutations.HOST else "guest"


ALL_ROWS = ALL_MACHINES + SCENARIOS


class Task(NamedTuple):
    name: str
    function: Callable[[], Verdict]
    lane: str = ""  # tasks of one lane share something, and run one after the other

# The random workloads of disks, and mappings that go while others read them: a million of them each.
SOAKED = ("integrity-", "q35-max-stale-million")

# What compares sources, and boots nothing.
DOCUMENTS = "tests/tools/check_docs.py"
SCRIPTS = (
    ("headers against those of mingw-w64", "tests/ddk/compare.py", "--build", "{build}"),
    ("headers of the driver kit", "tests/ddk/compare.py", "--kit", "--build", "{build}"),
    ("coverage table and API reference", DOCUMENTS),
    ("models of what processors ask of each other", "tests/models/check.py", "--build", "{build}"),
    ("the driver of docs/writing-a-driver.md", "tests/tools/check_driver_page.py", "--build",
     "{build}"),
)


def all_tasks(runner, is_wide):
    """Everything there is, the longest first: what has a lane is as long as that. Only calling needs a
    runner."""
    tasks = [Task("host tests", lambda: runner.run_host_tests())]
    tasks += [Task(f"mutation: {each.name}", lambda each=each: runner.run_mutation(each),
                   f"{kind_of_mutant(each)} mutants")
              for each in mutations.MUTATIONS if is_wide or not each.is_wide]
    rows = [row for row in ALL_ROWS if is_wide or not row.is_wide]
    slow_first = sorted(rows, key=lambda row: row.firmware != "ovmf" and not row.is_free)
    tasks += [Task(row.name, lambda row=row: runner.run_machine(row)) for row in slow_first]
    tasks += [Task(name, lambda command=command: runner.run_script(*command))
              for name, *command in SCRIPTS]
    return tasks


# How much longer than the disks' the rows of mm last: with the usual 300 seconds, three rows are an hour.
STRESS_FACTOR = 4


def lasting(row, seconds):
    return replace(row, options=re.sub(r"\bseconds=\d+", f"seconds={seconds}", row.options),
                   timeout=row.timeout + 2 * seconds)


def soak_tasks(runner, seconds):
    """The workloads that are to pass, for longer than usual."""
    rows = [lasting(row, STRESS_FACTOR * seconds) for row in ALL_MACHINES
            if row.name.startswith("stress-")]
    rows += [lasting(row, seconds) for row in ALL_ROWS
             if row.name.startswith(SOAKED) and not row.complaints]
    return [Task(row.name, lambda row=row: runner.run_machine(row)) for row in rows]


def timed(function):
    started = time.monotonic()
    try:
        verdict = function()
    except Exception as error:  # a broken row must not take the others with it
        verdict = Verdict(failures=[f"{type(error).__name__}: {error}"])
    return verdict, time.monotonic() - started


def print_result(name, verdict, seconds):
    skipped = f", {verdict.skipped} skipped" if verdict.skipped else ""
    state = "FAIL" if verdict.failures else "pass"
    print(f"{state}  {name:<44} {seconds:6.1f} s  {verdict.passed} passed, "
          f"{len(verdict.failures)} failed{skipped}")
    for note in verdict.notes:
        print(f"      {note}")
    for failure in verdict.failures[:FAILURES_SHOWN]:
        print(f"      {failure}")
    if len(verdict.failures) > FAILURES_SHOWN:
        print(f"      ... and {len(verdict.failures) - FAILURES_SHOWN} more")
    for line in verdict.tail:
        print(f"      | {line}")
    sys.stdout.flush()


def is_crowded(name):
    """Whether a task has more processors than a usual host. One that spins may then wait for one that does
    not run, and others beside make that worse."""
    rows = {row.name for row in ALL_ROWS if row.processors > 2}
    suites = {f"mutation: {each.name}": each.suite for each in mutations.MUTATIONS}
    return suites.get(name, name) in rows


def run_all(tasks):
    crowded = [task for task in tasks if is_crowded(task.name)]
    others = [task for task in tasks if not is_crowded(task.name)]
    passed, failed = run_at_once(others, WORKERS)
    crowded_passed, crowded_failed = run_at_once(crowded, 1)
    return passed + crowded_passed, failed + crowded_failed


class Queue:
    """Tasks that several workers take, each the first whose lane is free."""

    def __init__(self, tasks):
        self.waiting = list(tasks)
        self.busy = set()
        self.changed = threading.Condition()

    def first_free(self):
        return next((task for task in self.waiting if task.lane not in self.busy), None)

    def take(self):
        """None: there is nothing left."""
        with self.changed:
            self.changed.wait_for(lambda: not self.waiting or self.first_free())
            task = self.first_free()
            if task:
                self.waiting.remove(task)
                self.busy |= {task.lane} - {""}
            return task

    def end(self, task):
        with self.changed:
            self.busy -= {task.lane}
            self.changed.notify_all()


class Results:
    def __init__(self):
        self.passed = self.failed = 0
        self.changed = threading.Lock()


def work(queue, results):
    while task := queue.take():
        verdict, seconds = timed(task.function)
        queue.end(task)
        with results.changed:
            print_result(task.name, verdict, seconds)
            results.passed += verdict.passed
            results.failed += len(verdict.failures)


def run_at_once(tasks, worker_count):
    queue, results = Queue(tasks), Results()
    workers = [threading.Thread(target=work, args=(queue, results)) for _ in range(worker_count)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return results.passed, results.failed


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default="build")
    parser.add_argument("--only", default="", help="a regular expression of names")
    parser.add_argument("--soak", type=int, metavar="SECONDS")
    parser.add_argument("--wide", action="store_true", help="the rows of `make test-wide`, too")
    parser.add_argument("--list", action="store_true", help="print the names and end")
    arguments = parser.parse_args()
    if arguments.list:
        print("\n".join(task.name for task in all_tasks(None, True)))
        return
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    started = time.monotonic()
    runner = Runner(arguments.build)
    everything = not arguments.only and not arguments.soak
    tasks = soak_tasks(runner, arguments.soak) if arguments.soak else all_tasks(
        runner, bool(arguments.wide or arguments.only))
    tasks = [task for task in tasks if re.search(arguments.only, task.name)]
    if everything:
        runner.forget_logs()
    passed, failed = run_all(tasks)
    if everything:
        verdict, seconds = timed(lambda: runner.run_script(DOCUMENTS, "--ran", "{build}"))
        print_result("every test of the coverage table ran", verdict, seconds)
        passed, failed = passed + verdict.passed, failed + len(verdict.failures)
    print(f"{time.monotonic() - started:.0f} s; logs are in {runner.logs}")
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed or not passed else 0)


if __name__ == "__main__":
    main()
