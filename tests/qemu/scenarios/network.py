"""The network: a peer at the other end of the wire (netpeer.py) that talks to the guest's stack, answers
it, and tortures it. The capture of each row is kept beside its log (`build/logs/*.pcap`), and its
frames are compared with the guest's counters, reason by reason."""

import random
import re
import shutil
import threading
import time
from collections import Counter

import netpeer as net
from host import Host
from machines import Machine
from netpeer import (BROADCAST_IP, GUEST_IP, GUEST_MAC, ICMP, PEER_IP, UDP, Lease, PeerError,
                     build_arp, build_echo, build_ethernet, build_icmp, build_ipv4, build_udp)

READY = re.compile(r"^net: ready")
COUNT = re.compile(r"^inet: +(\d+) (.*)$")
DROPPED = re.compile(r"^inet: dropped: (\d+)$")
CLEAN = "^left behind: 0 things, 0 bytes"
READY_SECONDS = 40

REPORTS = ("help", "memory", "physical", "layout", "mappings", "shootdowns", "dma", "drivers",
           "devices", "interrupts", "threads", "inet", "e1000")


class NetHost(Host):
    """The peer, in a thread of its own; the guest asks for nothing. A class for each script."""

    lease_seconds = 3600  # None: no DHCP server

    def prepare(self):
        self.peer = net.Peer(Lease(self.lease_seconds) if self.lease_seconds else None)
        self.prepare_peer()
        self.pcap = self.folder / "net.pcap"
        self.arguments = ["-netdev", self.peer.netdev(), "-object",
                          f"filter-dump,id=dump,netdev=net,file={self.pcap}"]
        self.descriptors = [self.peer.qemu_end.fileno()]
        self.ready = threading.Event()
        self.over = threading.Event()
        self.expected = Counter()  # frames that the stack must drop, by its words for the reason
        self.lost = 0  # frames that the card itself must drop
        self.send_line = None
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def prepare_peer(self):
        """Before the guest starts."""

    def script(self):
        """What the peer does, once the guest is ready."""

    def listen(self, line, send):
        if READY.match(line):
            self.send_line = send
            self.ready.set()

    def run(self):
        try:
            deadline = time.monotonic() + READY_SECONDS
            while not self.ready.is_set():
                if self.over.is_set() or time.monotonic() > deadline:
                    raise PeerError("the guest did not become ready")
                self.peer.pump(0.05)
            self.script()
            self.peer.drain()
        except Exception as error:  # the verdict tells it
            self.verdict.failures.append(f"peer: {type(error).__name__}: {error}")
        try:
            if self.send_line:
                self.send_line(b"q")
            while not self.over.is_set():
                self.peer.pump(0.05)
        except (OSError, PeerError) as error:
            self.verdict.failures.append(f"peer: at the end: {error}")

    def close(self):
        self.over.set()
        self.thread.join(5)
        self.peer.close()
        if self.pcap.exists():
            shutil.copyfile(self.pcap, self.folder.parents[1] / "logs" / f"{self.folder.name}.pcap")

    def finish(self, outcome):
        self.over.set()
        self.thread.join(5)
        self.judge(outcome)
        return self.verdict

    # ------------------------------------------------------------------------------------------
    # Counters against the capture.

    def judge(self, outcome):
        counts = {match[2]: int(match[1]) for match in map(COUNT.match, outcome.lines) if match}
        drops = [int(match[1]) for match in map(DROPPED.match, outcome.lines) if match]
        if not drops or "frames received" not in counts:
            self.verdict.failures.append("the guest did not tell its counters")
            return
        captured = len(net.read_pcap(self.pcap))
        self.same("frames in the capture", captured, self.peer.sent + self.peer.received)
        self.same("frames received", counts["frames received"], self.peer.sent - self.lost)
        # What the guest sent after it had told its counters: it gives its lease back.
        releases = sum(1 for message in self.peer.lease.heard if message.kind == net.RELEASE) \
            if self.peer.lease else 0
        self.same("frames sent", counts["frames sent"], self.peer.received - releases)
        self.verdict.check(releases == (1 if self.peer.lease else 0), "the lease was not given back")
        for words, count in sorted(self.expected.items()):
            self.same(words, counts.get(words, 0), count)
        self.same("dropped", drops[-1], sum(self.expected.values()))
        self.same("fragments that wait now", counts.get("fragments that wait now"), 0)
        self.verdict.notes.append(f"{captured} frames captured, {drops[-1]} dropped by the guest "
                                  f"for {len(self.expected)} reasons")

    def same(self, words, guest, host):
        self.verdict.check(guest == host, f"{words}: the guest says {guest}, the host {host}")

    def drop(self, words, *frames):
        """Sends frames that the stack must drop for this reason."""
        self.expected[words] += len(frames)
        self.peer.send(*frames)


# --------------------------------------------------------------------------------------------------
# What a station must do.

class Talk(NetHost):
    sizes = (*range(0, 70), *range(70, 1473, 61), 1471, 1472)
    long_sizes = (1473, 1480, 1481, 2952, 3000, 8000, 30001, 65507)

    def script(self):
        peer = self.peer
        self.verdict.check(peer.resolve() == GUEST_MAC, "ARP gives another address")
        for size in self.sizes:
            peer.ping(size)
        for size in self.long_sizes:
            peer.ping(size)
        for size in self.long_sizes[:-1]:
            peer.ping(size, piece=1480 - 8 * (size % 64))  # at most 48 pieces: see fragment.c
        for size in (0, 1, 2, 17, 511, 1471, 1472, 1473, 4000, 20000):
            peer.udp_echo(bytes(index * 13 & 0xFF for index in range(size)))
            peer.udp_echo(b"x" * min(size, 1472), with_sum=False)
        self.unreachable()
        self.reports()

    def unreachable(self):
        """There is nobody on this port: an error that quotes what was sent."""
        datagram = build_ipv4(build_udp(b"anybody?", 5000, 5001), UDP)
        self.drop("UDP to a port that nobody listens on", build_ethernet(datagram))
        error = self.peer.expect(lambda packet: packet.protocol == ICMP and
                                 packet.payload[:2] == b"\x03\x03", "port unreachable")
        self.verdict.check(error.payload[8:36] == datagram[:28], "the error quotes something else")

    def reports(self):
        texts = {name: self.peer.ask_state(name) for name in REPORTS}
        for name, pattern in (("memory", r"\d"), ("mappings", r"0x[0-9a-f]{16}"),
                              ("drivers", r"e1000 +at 0x"), ("inet", "address 192.168.7.50"),
                              ("interrupts", "claimed by .*e1000"), ("help", "^mappings"),
                              ("e1000", r"\d+ frames received, says the driver")):
            self.verdict.check(re.search(pattern, texts[name], re.MULTILINE),
                               f"the report {name} has nothing like '{pattern}': {texts[name]!r}")
        self.verdict.check("no such report" in self.peer.ask_state("nonsense"),
                           "a report that does not exist was given")


class StaticTalk(Talk):
    lease_seconds = None
    sizes = (0, 56, 1472)
    long_sizes = (3000,)


class Capture(NetHost):
    """Both layers of the guest's counters beside the capture."""

    def script(self):
        for size in range(0, 1400, 7):
            self.peer.ping(size)
        self.peer.drain()
        received = self.peer.sent
        text = self.peer.ask_state("e1000")
        counts = {match[2]: int(match[1])
                  for match in re.finditer(r"^ *(\d+) (.*)$", text, re.MULTILINE)}
        # The question itself has come when the card is asked; its answer has not gone.
        self.same("frames received, says the driver",
                  counts["frames received, says the driver"], received + 1)
        self.same("frames received, says the card", counts["frames received, says the card"],
                  received + 1)
        self.same("frames sent, says the card", counts["frames sent, says the card"],
                  self.peer.received - 1)
        self.same("missed interrupts", counts["missed interrupts"], 0)


class Dhcp(NetHost):
    """Offers that get lost, a refusal, an address that somebody has, a lease of few seconds."""

    lease_seconds = 8

    def prepare_peer(self):
        # The first DISCOVER is lost; the first REQUEST refused; then an address that is taken.
        self.peer.lease.script = [None, net.OFFER, net.NAK, net.OFFER, net.ACK]
        self.peer.claimed.add(GUEST_IP)

    def script(self):
        lease = self.peer.lease
        kinds = [message.kind for message in lease.heard]
        self.verdict.check(kinds == [net.DISCOVER, net.DISCOVER, net.REQUEST, net.DISCOVER,
                                     net.REQUEST, net.DECLINE], f"the exchange was {kinds}")
        # Ten seconds later the client begins again; now the address is free.
        self.peer.claimed.remove(GUEST_IP)
        self.peer.wait(lambda: lease.heard[-1].kind == net.REQUEST, "another exchange", 15)
        self.peer.drain(0.5)
        self.peer.ping(56)
        # Renewal by the server itself, at half of the time.
        before = len(lease.heard)
        self.peer.wait(lambda: len(lease.heard) > before, "renewal")
        renewal = lease.heard[-1]
        self.verdict.check(renewal.client == GUEST_IP and renewal.packet.target_ip == PEER_IP,
                           "the renewal went to somebody else")
        # The server is silent now: at seven eighths, anybody is asked.
        lease.script = [None] * 3
        self.peer.wait(lambda: any(message.packet.target_ip == BROADCAST_IP
                                   for message in lease.heard[before + 1:]), "rebinding", 12)
        lease.script = []
        self.peer.ping(56)
        # All servers are silent: the lease is over, and the address not used any more.
        lease.script = [None] * 50
        before = len(lease.heard)
        self.peer.wait(lambda: any(message.kind == net.DISCOVER
                                   for message in lease.heard[before:]), "end of the lease", 15)
        self.drop("to another IPv4 address", build_ethernet(build_ipv4(build_echo(1, b""), ICMP)))
        lease.script = []
        before = len(lease.heard)
        self.peer.wait(lambda: any(message.kind == net.REQUEST
                                   for message in lease.heard[before:]), "new lease", 25)
        self.peer.drain(0.5)
        self.peer.ping(56)


# --------------------------------------------------------------------------------------------------
# Torture.

def echo(**fields):
    return build_ipv4(build_echo(7, b"torture"), ICMP, **fields)


def datagram(port=net.ECHO_PORT, source_port=6000, **fields):
    return build_ipv4(build_udp(b"torture", source_port, port, **fields), UDP)


def cut(first, count, last=False, ident=0):
    return build_ethernet(build_ipv4(bytes(count), ICMP, ident=ident,
                                     fragment=(0 if last else 0x2000) | first // 8))


ARP = build_arp(1, PEER_IP, GUEST_IP)
# One frame each, and why the stack must drop it.
BAD_FRAMES = (
    ("of a VLAN", lambda: net.build_vlan(build_ethernet(echo()), 0x0005)),
    ("from our own Ethernet address, or from a group's",
     lambda: build_ethernet(echo(), source=GUEST_MAC)),
    ("from our own Ethernet address, or from a group's",
     lambda: build_ethernet(echo(), source=b"\x01\0\x5e\0\0\1")),
    ("longer than the MTU", lambda: build_ethernet(bytes(1501))),
    ("longer than the MTU", lambda: build_ethernet(bytes(1504))),
    ("neither ARP nor IPv4", lambda: build_ethernet(bytes(60), 0x86DD)),
    ("neither ARP nor IPv4", lambda: build_ethernet(bytes(60), 46)),
    ("malformed ARP", lambda: ARP[:18] + b"\x05" + ARP[19:]),
    ("malformed ARP", lambda: ARP[:20] + b"\0\x07" + ARP[22:]),
    ("ARP about others", lambda: build_arp(1, "192.168.7.77", "192.168.7.78")),
    ("malformed IPv4 header", lambda: build_ethernet(echo(version=5))),
    ("malformed IPv4 header", lambda: build_ethernet(echo(total=19))),
    ("IPv4 shorter than its header says", lambda: build_ethernet(echo(total=1501))),
    ("IPv4 shorter than its header says", lambda: build_ethernet(echo(total=65535))),
    ("wrong IPv4 checksum", lambda: build_ethernet(echo(sum_xor=0x0100))),
    ("from an address that no station has", lambda: build_ethernet(echo(source="224.0.0.1"))),
    ("from an address that no station has", lambda: build_ethernet(echo(source="127.0.0.1"))),
    ("from an address that no station has", lambda: build_ethernet(echo(source=GUEST_IP))),
    ("from an address that no station has", lambda: build_ethernet(echo(source="192.168.7.255"))),
    ("to another IPv4 address", lambda: build_ethernet(echo(to="192.168.7.51"))),
    ("to another IPv4 address", lambda: build_ethernet(echo(), to=net.BROADCAST_MAC)),
    ("malformed fragment", lambda: cut(8, 15)),
    ("malformed fragment", lambda: cut(65512, 64, True)),
    ("malformed ICMP", lambda: build_ethernet(build_ipv4(b"\x08\0\xf7\xff", ICMP))),
    ("wrong ICMP checksum",
     lambda: build_ethernet(build_ipv4(build_echo(1, b"x" * 99, sum_xor=0x40), ICMP))),
    ("ICMP that needs no answer", lambda: build_ethernet(build_ipv4(build_icmp(13, 0, bytes(16)),
                                                                    ICMP))),
    ("ICMP that needs no answer", lambda: build_ethernet(build_ipv4(build_icmp(5, 1, bytes(32)),
                                                                    ICMP))),
    ("echo request to everybody",
     lambda: build_ethernet(echo(to=BROADCAST_IP), to=net.BROADCAST_MAC)),
    ("echo request to everybody",
     lambda: build_ethernet(echo(to="192.168.7.255"), to=net.BROADCAST_MAC)),
    ("wrong UDP length", lambda: build_ethernet(datagram(length=7))),
    ("wrong UDP length", lambda: build_ethernet(datagram(length=500))),
    ("wrong UDP checksum", lambda: build_ethernet(datagram(sum_xor=0x8000))),
    ("UDP from a port that would answer the answer", lambda: build_ethernet(datagram(7, 4747))),
    ("UDP from a port that would answer the answer", lambda: build_ethernet(datagram(4747, 7))),
    ("malformed state request", lambda: build_ethernet(
        build_ipv4(build_udp(b"x" * 64, 6000, net.STATE_PORT), UDP))),
)
# Frames that the card does not let through: to other stations and to groups, and too long ones.
CARD_FRAMES = (
    lambda: build_ethernet(echo(), to=b"\x52\x54\0\0\0\x99"),
    lambda: build_ethernet(echo(), to=b"\x01\0\x5e\0\0\xfb"),
    lambda: build_ethernet(bytes(1509)),
    lambda: build_ethernet(bytes(3000)),
    lambda: build_ethernet(bytes(9000)),
)


class Torture(NetHost):
    """Thousands of malformed frames, good ones among them; lost, doubled and disordered fragments."""

    rounds = 6000
    seed = 20261121

    def script(self):
        self.random = random.Random(self.seed)
        for number in range(self.rounds):
            self.one(number)
            if number % 500 == 0:
                self.peer.ping(self.random.randrange(4000))
                self.peer.drain(0)
                self.peer.inbox.clear()
        self.fragments()
        self.peer.drain()
        self.peer.inbox.clear()
        self.peer.ping(1472)
        self.peer.ping(20000)
        self.peer.udp_echo(b"still here")

    def one(self, number):
        if self.random.random() < 0.08:
            frame = self.random.choice(CARD_FRAMES)()
            self.lost += 1
            self.peer.send(frame)
        else:
            words, build = BAD_FRAMES[self.random.randrange(len(BAD_FRAMES))]
            self.drop(words, build())
        if number % 40 == 0:
            # Damage of any kind at any place behind Ethernet's header, in the checksums' reach.
            frame = bytearray(build_ethernet(echo()))
            place = self.random.randrange(15, len(frame))
            frame[place] ^= 1 << self.random.randrange(8)
            words = "wrong IPv4 checksum" if place < 34 else "wrong ICMP checksum"
            if place in (16, 17):  # the length, which is looked at first
                total = frame[16] << 8 | frame[17]
                words = ("malformed IPv4 header" if total < 20 else
                         "IPv4 shorter than its header says" if total > len(frame) - 14
                         and total > 46 else words)
            self.drop(words, bytes(frame))

    def fragments(self):
        """Datagrams of which pieces come twice, in any order, not at all, or over each other."""
        peer = self.peer
        for number in range(200):
            size = self.random.randrange(1600, 12000)
            message = build_echo(number, bytes(index & 0xFF for index in range(size)), 0x7777)
            frames = net.build_fragments(message, ICMP, 1000 + number)
            self.random.shuffle(frames)
            doubled = self.random.randrange(len(frames) - 1)
            self.expected["fragment that was here already"] += 1
            peer.send(*frames[:doubled + 1], frames[doubled], *frames[doubled + 1:])
            reply = peer.collect_fragments()
            if reply[4:] != message[4:] or net.checksum(reply):
                raise PeerError(f"the reply to datagram {number} is wrong")
        # Pieces over each other: the datagram goes, with what was kept of it.
        for number in range(100):
            self.drop("fragments that overlap", cut(0, 1480, ident=5000 + number),
                      cut(8 * self.random.randrange(1, 184), 1480, ident=5000 + number))
        # Datagrams that never become whole: the oldest make room for the newer ones, the last four
        # wait in vain.
        self.drop("fragments for which there was no room",
                  *(cut(0, 1480, ident=7000 + number) for number in range(300)))
        self.drop("fragments whose rest did not come in time",
                  *(cut(1480, 1480, ident=9000 + number) for number in range(4)))
        time.sleep(6)


class Flood(NetHost):
    """More than the guest can take, as fast as the wire can: nothing may be lost, since whoever is
    full makes the sender wait. Only QEMU throws away what comes from the guest, when 10,000 frames
    wait to be read: so the peer reads, too."""

    count = 20000
    window = 4000

    def script(self):
        peer = self.peer
        before = peer.received
        started = time.monotonic()
        for number in range(self.count):
            peer.send(build_ethernet(build_ipv4(build_echo(number, bytes(number % 1400), 0x5555),
                                                ICMP)))
            while number - (peer.received - before) > self.window:
                peer.pump(1)
            peer.inbox.clear()
        peer.wait(lambda: peer.received - before >= self.count, "end of the replies", 60)
        seconds = time.monotonic() - started
        peer.inbox.clear()
        self.verdict.notes.append(f"{self.count} echo requests answered in {seconds:.1f} s: "
                                  f"{self.count / seconds:.0f} each second")
        # And what gets no answer.
        self.drop("wrong ICMP checksum", *(build_ethernet(build_ipv4(
            build_echo(number, b"", sum_xor=1), ICMP)) for number in range(self.count // 2)))
        peer.ping(56)


class Cable(NetHost):
    """The cable is pulled while the guest talks, and comes back."""

    def set_link(self, is_up):
        self.monitor.execute("set_link", {"name": "nic", "up": is_up})

    def script(self):
        peer = self.peer
        for number in range(3):
            peer.ping(100)
            heard = len(peer.lease.heard)
            self.set_link(False)
            time.sleep(0.3)
            self.set_link(True)
            # The lease is asked for again, because behind the cable there may be another net.
            peer.wait(lambda: len(peer.lease.heard) > heard, "question about the lease", 10)
            peer.drain(0.5)
            peer.ping(1472)
        text = peer.ask_state("e1000")
        changes = re.search(r"(\d+) changes of the link", text)
        self.verdict.check(changes and int(changes[1]) >= 6, f"changes of the link: {changes}")


# --------------------------------------------------------------------------------------------------

CARD = ("-device", f"e1000,id=nic,netdev=net,mac={GUEST_MAC.hex(':')}")


def row(name, number, host, options="", **fields):
    fields = {"devices": CARD, "patterns": (CLEAN, "^net: ready"), "floor": 0, "timeout": 200,
              **fields}
    return Machine(f"f{number}-{name}", host=host, options=f"mode=net seconds=180 {options}".strip(),
                   **fields)


LEASE = (CLEAN, r"^net: DHCP lease: 192\.168\.7\.50, .* from 192\.168\.7\.2",
         r"^net: ping 192\.168\.7\.2: a reply after")
HARD = "verifier=1 dma=bounce"

ROWS = (
    row("net-talk", 17, Talk, patterns=LEASE),
    row("net-talk-verifier", 17, Talk, HARD, machine="pc", cpu="qemu64", patterns=LEASE),
    row("net-static", 17, StaticTalk, "inet.Address=192.168.7.50/24 inet.Router=192.168.7.2"),
    row("net-dhcp", 17, Dhcp, patterns=(CLEAN, "^net: no lease: status 0xc0000186")),
    row("net-capture", 18, Capture, patterns=LEASE),
    row("net-torture", 19, Torture, patterns=LEASE),
    row("net-torture-verifier", 19, Torture, HARD, ram="128M", patterns=LEASE),
    row("net-flood", 19, Flood, patterns=LEASE),
    row("net-flood-5G", 19, Flood, "dma=bounce", ram="5G", patterns=LEASE),
    row("net-cable", 20, Cable, patterns=LEASE),
)
