"""One guest, from start to end: QEMU or Bochs as a child process with a deadline, its serial lines
as they come.

QEMU's serial port and its monitor are socket pairs handed down as file descriptors: no paths,
nothing to clean up, and no byte is lost before somebody listens. A child is ended by its own
process id and always waited for.
"""

import fnmatch
import os
import pty
import re
import select
import signal
import socket
import subprocess
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from monitor import Monitor

# How a guest leaves: isa-debug-exit turns the code c into the status 2c + 1.
PASSED = 33
FAILED = 35
BUG_CHECK = 37
# However the guest fared: its results tell. Now and then Bochs falls when it has ended everything already.
BOCHS_SHUTDOWN = (1, -signal.SIGSEGV)
STATUS_NAMES = {PASSED: "passed", FAILED: "failed", BUG_CHECK: "bug check"}

FIRMWARE_FILES = {"seabios": None, "ovmf": "/usr/share/ovmf/OVMF.fd"}
CONSOLE_ESCAPES = re.compile(r"\x1b(\[[0-9;=?]*[A-Za-z]|[()][A-Z0-9])|[\x00-\x08\x0b-\x1f]")
SECONDS_TO_EXIT = 5

# What QEMU's NVMe controller says of a driver's mistakes.
MISTAKES = "pci_nvme_ub_*"

def smp(processors):
    """What -smp gets; SMP in the environment overrides it. QEMU 7.2 leaves a guest's memory barriers out when
    there can be no second processor, although its devices run in threads of their own."""
    return os.environ.get("SMP", "1,maxcpus=2" if processors == 1 else str(processors))


@dataclass
class Outcome:
    lines: list = field(default_factory=list)  # serial output, escape codes of firmware removed
    status: int = None  # None: it did not end by itself in time
    seconds: float = 0.0
    device_log: list = field(default_factory=list)  # what the guest did wrong to devices
    traces: list = field(default_factory=list)  # the events that the row asked for
    errors: str = ""  # what the emulator itself said

    @property
    def timed_out(self):
        return self.status is None


def end_child(child):
    if child.poll() is None:
        child.kill()
    child.wait()


class LineSplitter:
    """Bytes in, whole lines out, in order, to one listener; keeps them all."""

    def __init__(self, listener):
        self.listener = listener
        self.rest = ""
        self.lines = []

    def feed(self, data):
        *whole, self.rest = (self.rest + data.decode("latin-1")).split("\n")
        for line in whole:
            self._emit(line)

    def finish(self):
        if self.rest:
            self._emit(self.rest)

    def _emit(self, line):
        line = CONSOLE_ESCAPES.sub("", line)
        self.lines.append(line)
        if self.listener:
            self.listener(line)


def qemu_command(machine, image, devices):
    """The command line without the channels. `image` is (door, path), `devices` arguments."""
    door, path = image
    command = ["qemu-system-x86_64", "-accel", "tcg", "-M", machine.machine, "-cpu", machine.cpu,
               "-m", machine.ram, "-display", "none", "-vga", "none", "-no-reboot", "-nodefaults",
               "-smp", smp(machine.processors), "-device", "isa-debug-exit,iobase=0xf4,iosize=1"]
    firmware = FIRMWARE_FILES[machine.firmware]
    if firmware:
        command += ["-bios", firmware]
    command += ["-boot", "d", "-cdrom", str(path)] if door != "efi" else ["-kernel", str(path)]
    return command + devices + list(machine.arguments)


def run_qemu(command, timeout, log_path, listener=None, host=None, traces=()):
    """Runs a command to its end or the deadline. `listener(line, send, monitor)` sees each line,
    `host` (host.py) answers the guest's questions, `traces` are patterns of events of QEMU."""
    serial, guest_serial = socket.socketpair()
    control, guest_control = socket.socketpair()
    errors_path = log_path.with_suffix(".devices")
    errors_path.unlink(missing_ok=True)
    events = ",".join(["guest_errors", *(f"trace:{name}" for name in (MISTAKES, *traces))])
    command = command + (host.arguments if host else []) + [
        "-chardev", f"socket,id=serial,fd={guest_serial.fileno()}", "-serial", "chardev:serial",
        "-chardev", f"socket,id=control,fd={guest_control.fileno()}",
        "-mon", "chardev=control,mode=control", "-d", events, "-D", str(errors_path)]
    descriptors = [guest_serial.fileno(), guest_control.fileno()]
    descriptors += host.descriptors if host else []
    started = time.monotonic()
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                             stderr=subprocess.PIPE, text=True, pass_fds=descriptors)
    guest_serial.close()
    guest_control.close()
    monitor = Monitor(control)

    def hear(line):
        if listener:
            listener(line, serial.sendall, monitor)
        if host:
            host.listen(line, serial.sendall)

    splitter = LineSplitter(hear)
    outcome = Outcome(splitter.lines)
    try:
        if host:
            host.start(monitor, errors_path)
        deadline = started + timeout
        while collect(serial, splitter, deadline, host):
            pass
        splitter.finish()
        outcome.status = child.wait(max(SECONDS_TO_EXIT, 0) if time.monotonic() < deadline else 0)
    except (subprocess.TimeoutExpired, BrokenPipeError):
        pass
    finally:
        end_child(child)
        serial.close()
        control.close()
    outcome.seconds = time.monotonic() - started
    outcome.errors = child.stderr.read().strip()
    child.stderr.close()
    split_log(outcome, errors_path, traces)
    log_path.write_text("\n".join(splitter.lines) + "\n")
    return outcome


def collect(channel, splitter, deadline, host=None):
    """One read from the serial port. False: the guest is gone, or its time is up."""
    left = deadline - time.monotonic()
    pause = host.seconds_to_next() if host else None
    if left <= 0:
        return False
    if not select.select([channel], [], [], left if pause is None else min(left, pause))[0]:
        if pause is None:
            return False
        host.run_due()
        return True
    try:
        data = channel.recv(65536)
    except ConnectionResetError:
        return False
    splitter.feed(data)
    return bool(data)


def split_log(outcome, errors_path, traces):
    """QEMU logs everything to one file: the events that were asked for get one of their own."""
    if not errors_path.exists():
        return
    lines = errors_path.read_text(errors="replace").splitlines()
    for line in lines:
        event = line.split(" ", 1)[0]
        was_wanted = (any(fnmatch.fnmatchcase(event, name) for name in traces) and
                      not fnmatch.fnmatchcase(event, MISTAKES))
        (outcome.traces if was_wanted else outcome.device_log).append(line)
    if traces:
        errors_path.write_text("".join(f"{line}\n" for line in outcome.device_log))
        errors_path.with_suffix(".traces").write_text(
            "".join(f"{line}\n" for line in outcome.traces))


BOCHS_MAX = "tigerlake"  # what stands for QEMU's processor with everything
BOCHS_CONFIGURATION = """
megs: 256
cpu: model={cpu}, count={processors}, ips=50000000, reset_on_triple_fault=0, ignore_bad_msrs=0
romimage: file=/usr/share/bochs/BIOS-bochs-latest
vgaromimage: file=/usr/share/vgabios/vgabios.bin
ata0-master: type=cdrom, path={image}, status=inserted
boot: cdrom
com1: enabled=1, mode=file, dev={serial}
display_library: term
clock: sync=none
panic: action=fatal
plugin_ctrl: unmapped=1
log: {log}
"""


def run_bochs(image, timeout, log_path, cpu, processors=1):
    """The ISO under Bochs, on a terminal that nobody looks at; port 0x8900 ends it."""
    folder = log_path.parent
    serial = log_path.with_suffix(".serial")
    configuration = log_path.with_suffix(".bochsrc")
    commands = log_path.with_suffix(".commands")
    configuration.write_text(BOCHS_CONFIGURATION.format(
        image=Path(image).resolve(), processors=processors, serial=serial.resolve(),
        cpu=BOCHS_MAX if cpu == "max" else cpu, log=log_path.with_suffix(".bochs").resolve()))
    commands.write_text("c\n")  # Debian's Bochs has a debugger that waits for this at the start
    serial.unlink(missing_ok=True)
    terminal, child_terminal = pty.openpty()
    started = time.monotonic()
    child = subprocess.Popen(
        ["bochs", "-q", "-f", str(configuration.resolve()), "-rc", str(commands.resolve())],
        stdin=child_terminal, stdout=child_terminal, stderr=child_terminal, cwd=folder,
        env=dict(os.environ, TERM="xterm"), start_new_session=True)
    os.close(child_terminal)
    drain = threading.Thread(target=drain_terminal, args=(terminal,), daemon=True)
    drain.start()
    outcome = Outcome()
    try:
        outcome.status = child.wait(timeout)
    except subprocess.TimeoutExpired:
        pass
    finally:
        end_child(child)
        drain.join(SECONDS_TO_EXIT)
        os.close(terminal)
    outcome.seconds = time.monotonic() - started
    splitter = LineSplitter(None)
    splitter.feed(serial.read_bytes() if serial.exists() else b"")
    splitter.finish()
    outcome.lines = splitter.lines
    log_path.write_text("\n".join(splitter.lines) + "\n")
    return outcome


def drain_terminal(terminal):
    try:
        while os.read(terminal, 65536):
            pass
    except OSError:
        pass  # the child's side was closed
