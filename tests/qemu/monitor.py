"""QEMU's monitor, over QMP: questions, and the events that come between the answers."""

import json
import select
import time

SECONDS_FOR_ANSWER = 30


class MonitorError(RuntimeError):
    """QEMU refused, went away, or did not answer in time."""


class Monitor:
    """The greeting waits in the channel until the first question. Events are kept, in order, until
    somebody waits for one of their name."""

    def __init__(self, channel):
        self.channel = channel
        self.rest = b""
        self.events = []
        self.ready = False

    def ask(self, command):
        """The answer of a human monitor command."""
        return self.execute("human-monitor-command", {"command-line": command})

    def execute(self, name, arguments=None):
        """What a QMP command returns."""
        self._get_ready()
        return self._execute(name, arguments)

    def wait_for_event(self, name, seconds):
        """The data of the oldest event of this name, which is then forgotten; None: none came."""
        self._get_ready()
        deadline = time.monotonic() + seconds
        while True:
            for index, event in enumerate(self.events):
                if event["event"] == name:
                    return self.events.pop(index).get("data", {})
            message = self._read_message(deadline)
            if message is None:
                return None
            self._keep_event(message)

    def _get_ready(self):
        if not self.ready:
            self._read_answer("QMP")
            self._execute("qmp_capabilities")
            self.ready = True

    def _execute(self, name, arguments=None):
        question = {"execute": name, "arguments": arguments or {}}
        self.channel.sendall(json.dumps(question).encode() + b"\n")
        return self._read_answer("return")

    def _keep_event(self, message):
        if "event" in message:
            self.events.append(message)

    def _read_answer(self, key):
        deadline = time.monotonic() + SECONDS_FOR_ANSWER
        while (message := self._read_message(deadline)) is not None:
            if "error" in message:
                raise MonitorError(f"QEMU's monitor: {message['error']['desc']}")
            if key in message:
                return message[key]
            self._keep_event(message)
        raise MonitorError("QEMU's monitor does not answer")

    def _read_message(self, deadline):
        """The next message; None: none came in time."""
        while b"\n" not in self.rest:
            left = max(deadline - time.monotonic(), 0)
            if not select.select([self.channel], [], [], left)[0]:
                return None
            data = self.channel.recv(65536)
            if not data:
                raise MonitorError("QEMU's monitor went away")
            self.rest += data
        line, self.rest = self.rest.split(b"\n", 1)
        return json.loads(line)
