"""What the host does for a guest that asks for it: the other half of `KtAskHost` (tests/kernel).

The guest prints a line and waits; the host does it, and answers with one line on the serial port:

  # host: hmp set_link net0 off
  ok

An answer is `ok`, or `ok` and a result, or `error` and a sentence, which fails the guest's test.
What can be asked for:

  qmp NAME [JSON]            a QMP command with its arguments; the result is what it returns
  hmp LINE                   a command of the human monitor; the result is its first line
  event SECONDS NAME         waits for a QMP event, also a past one, once; the result is its data
  later MILLISECONDS LINE    does one of these after a while; the answer comes at once
  clock                      milliseconds since some time, as the host counts them
  mark                       forgets what QEMU has logged so far
  count PATTERN              how many lines QEMU has logged since: traces, guest errors

A scenario that needs more derives a class from Host: each method `do_VERB(arguments)` is a verb;
what it returns is the result, what it raises is the error.
"""

import heapq
import json
import re
import time
from pathlib import Path

from monitor import MonitorError
from verdict import Verdict

REQUEST = re.compile(r"^\s*# host: (\w+)\s*(.*?)\s*$")
RESULT_CHARACTERS = 200  # what the guest has room for
HMP_COMPLAINT = re.compile(r"^(Error|error|unknown command|invalid|Invalid|.* not found)")


class HostError(Exception):
    """Why the host can't do what the guest asked for."""


class Host:
    """One for each run of a guest; `folder` is empty and belongs to the run."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.verdict = Verdict()
        self.arguments = []  # what prepare() adds to QEMU's command line
        self.descriptors = []  # sockets and files that QEMU inherits
        self.monitor = None
        self.log_path = None  # what QEMU logs, as it comes
        self.log_offset = 0
        self.asked = 0
        self.waiting = []  # heap of (when, number, line)

    # ------------------------------------------------------------------------------------------
    # For those who derive.

    def prepare(self):
        """Before QEMU starts: makes files in the folder, opens sockets."""

    def judge(self, outcome):
        """After the guest has ended: adds to self.verdict."""

    def close(self):
        """At the end in any case: ends what prepare() and the verbs have started."""

    # ------------------------------------------------------------------------------------------
    # For the runner.

    def start(self, monitor, log_path):
        self.monitor = monitor
        self.log_path = log_path

    def listen(self, line, send):
        match = REQUEST.match(line)
        if match:
            self.asked += 1
            send(self.answer(match[1], match[2]))

    def answer(self, verb, arguments):
        """The line that the guest gets."""
        try:
            result = self.act(verb, arguments)
        except (HostError, MonitorError, ValueError, OSError) as error:
            self.verdict.failures.append(f"host: {verb} {arguments}: {error}")
            return self.as_line(f"error {error}")
        return self.as_line("ok" if result is None else f"ok {result}")

    def act(self, verb, arguments):
        routine = getattr(self, f"do_{verb}", None)
        if routine is None:
            raise HostError(f"the host does not know how to {verb}")
        return routine(arguments)

    @staticmethod
    def as_line(text):
        shown = re.sub(r"[^ -~]", " ", text)
        return shown[:RESULT_CHARACTERS].encode() + b"\n"

    def seconds_to_next(self):
        """Until something is to be done without a request; None: nothing is."""
        return max(self.waiting[0][0] - time.monotonic(), 0) if self.waiting else None

    def run_due(self):
        while self.waiting and self.waiting[0][0] <= time.monotonic():
            verb, _, arguments = heapq.heappop(self.waiting)[2].partition(" ")
            self.answer(verb, arguments)

    def finish(self, outcome):
        self.verdict.check(self.asked, "the guest did not ask the host for anything")
        self.judge(outcome)
        return self.verdict

    # ------------------------------------------------------------------------------------------
    # Verbs.

    def do_qmp(self, arguments):
        name, _, text = arguments.partition(" ")
        result = self.monitor.execute(name, json.loads(text) if text else None)
        return json.dumps(result) if result else None

    def do_hmp(self, line):
        output = self.monitor.ask(line).strip().splitlines()
        if output and HMP_COMPLAINT.match(output[0]):
            raise HostError(output[0])
        return output[0] if output else None

    def do_event(self, arguments):
        seconds, name = arguments.split()
        deadline = time.monotonic() + float(seconds)
        while (left := deadline - time.monotonic()) > 0:
            pause = self.seconds_to_next()
            data = self.monitor.wait_for_event(name, left if pause is None else min(left, pause))
            if data is not None:
                return json.dumps(data)
            self.run_due()
        raise HostError(f"no {name} within {seconds} s")

    def do_later(self, arguments):
        milliseconds, _, line = arguments.partition(" ")
        when = time.monotonic() + int(milliseconds) / 1000
        heapq.heappush(self.waiting, (when, self.asked, line))

    def do_clock(self, _):
        """Milliseconds: a busy host gives the guest too few ticks for its own clock."""
        return int(time.monotonic() * 1000)

    def do_mark(self, _):
        self.log_offset = self.log_path.stat().st_size if self.log_path.exists() else 0

    def do_count(self, pattern):
        return sum(1 for line in self.logged() if re.search(pattern, line))

    def logged(self):
        """The lines that QEMU has logged since the last mark."""
        if not self.log_path.exists():
            return []
        with open(self.log_path, "rb") as log:
            log.seek(self.log_offset)
            return log.read().decode(errors="replace").splitlines()
