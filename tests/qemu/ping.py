#!/usr/bin/env python3
"""`make ping`: boots the kernel with its network card, pings it, asks it for its own state, and shows
what a person would like to see. The other station is this program (netpeer.py): it gives the kernel its
address, and every frame is its own work. The capture is build/logs/ping.pcap, for Wireshark or tcpdump.

  ping.py --build FOLDER [--count N] [--size BYTES] [--options '...'] [REPORT ...]
"""

import argparse
import sys
import threading
import time
from pathlib import Path

import guest
import netpeer
from images import make_cd, own_drivers
from machines import Machine
from netpeer import GUEST_IP, PEER_IP, Lease, Peer, PeerError

MACHINE = Machine("ping", timeout=120)
READY_SECONDS = 30
PAUSE = 0.2
REPORTS = ("help", "drivers", "interrupts", "inet")


def show(text):
    print(text, flush=True)


class Session:
    def __init__(self, arguments):
        self.arguments = arguments
        self.peer = Peer(Lease())
        self.send = None
        self.is_over = False
        self.failure = None

    def listen(self, line, send, _):
        if line.startswith(("net:", "left behind", "***")):
            show(f"guest: {line}")
        if line.startswith("net: ready"):
            self.send = send

    def run(self):
        try:
            self.talk()
        except (PeerError, OSError) as error:
            self.failure = str(error)
        if self.send:
            self.send(b"q")
        while not self.is_over:
            self.peer.pump(0.05)

    def talk(self):
        deadline = time.monotonic() + READY_SECONDS
        while not self.send:
            if time.monotonic() > deadline:
                raise PeerError("the guest did not become ready")
            self.peer.pump(0.05)
        address = ":".join(f"{byte:02x}" for byte in self.peer.resolve())
        show(f"\n{GUEST_IP} is at {address}\n")
        self.ping(self.arguments.size, self.arguments.count)
        self.ping(3000, 1)
        for name in self.arguments.reports or REPORTS:
            show(f"\n$ {name}")
            show(self.peer.ask_state(name).rstrip())
        show("")

    def ping(self, size, count):
        for number in range(count):
            seconds = self.peer.ping(size)
            shown = " in fragments" if size > 1472 else ""
            show(f"{size + 8} bytes from {GUEST_IP}{shown}: seq={number + 1} "
                 f"time={seconds * 1000:.2f} ms")
            time.sleep(PAUSE)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default="build")
    parser.add_argument("--count", type=int, default=4)
    parser.add_argument("--size", type=int, default=56)
    parser.add_argument("--options", default="", help="more boot options for the kernel")
    parser.add_argument("reports", nargs="*", help="what to ask for: `help` lists the names")
    arguments = parser.parse_args()
    build = Path(arguments.build)
    (build / "logs").mkdir(exist_ok=True)
    (build / "images").mkdir(exist_ok=True)
    image = build / "images" / "ping.cd"
    make_cd(build / "iospace", image, f"mode=net seconds=60 {arguments.options}".strip(),
            own_drivers(build / "iospace"))
    session = Session(arguments)
    command = guest.qemu_command(MACHINE, (MACHINE.door, image), [
        "-netdev", session.peer.netdev(), "-object",
        f"filter-dump,id=dump,netdev=net,file={build / 'logs' / 'ping.pcap'}",
        "-device", f"e1000,netdev=net,mac={netpeer.GUEST_MAC.hex(':')}"])
    show(f"host: a kernel at the other end of a wire; this end is {PEER_IP}")
    thread = threading.Thread(target=session.run, daemon=True)
    thread.start()
    outcome = guest.run_qemu(command, MACHINE.timeout, build / "logs" / "ping.log", session.listen,
                             Wire(session.peer))
    session.is_over = True
    thread.join(5)
    session.peer.close()
    if session.failure or outcome.status != guest.PASSED:
        sys.exit(f"host: FAILED: {session.failure or guest.STATUS_NAMES.get(outcome.status, outcome.errors)}")
    show("host: every frame of this is in build/logs/ping.pcap")


class Wire:
    """As much of host.py's Host as the wire needs: QEMU inherits its other end."""

    def __init__(self, peer):
        self.arguments = []
        self.descriptors = [peer.qemu_end.fileno()]

    def start(self, monitor, log_path):
        pass

    def listen(self, line, send):
        pass

    def seconds_to_next(self):
        return None


if __name__ == "__main__":
    main()
