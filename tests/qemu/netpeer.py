"""A peer for the guest's network stack, with frames that it builds and reads itself: nothing of the
host's network is involved, and nothing of the guest's code.

  pcap        reads what QEMU's filter-dump has kept
  build_*     frames, from the inside out
  parse       a frame as layers, every length and checksum looked at
  Peer        a station at the other end of the wire: it answers ARP, gives leases, and keeps what comes

The wire is a pair of datagram sockets, one of which QEMU inherits (`-netdev dgram`): one frame per
datagram, nothing is lost on the way, and whoever sends faster than the guest receives waits.
"""

import select
import socket
import struct
import time
from dataclasses import dataclass, field

BROADCAST_MAC = b"\xff" * 6
PEER_MAC = bytes.fromhex("5255c0a80702")
GUEST_MAC = bytes.fromhex("525400123456")
PEER_IP = "192.168.7.2"
GUEST_IP = "192.168.7.50"
MASK = "255.255.255.0"
BROADCAST_IP = "255.255.255.255"

TYPE_IPV4, TYPE_ARP, TYPE_VLAN = 0x0800, 0x0806, 0x8100
ICMP, UDP = 1, 17
ECHO_PORT, STATE_PORT = 7, 4747
MTU = 1500
FRAME_LIMIT = 65536

DISCOVER, OFFER, REQUEST, DECLINE, ACK, NAK, RELEASE = 1, 2, 3, 4, 5, 6, 7
DHCP_FIXED = struct.Struct("!BBBBIHH4s4s4s4s16s64s128sI")
DHCP_COOKIE = 0x63825363


def ip_bytes(text):
    return bytes(int(part) for part in text.split("."))


def ip_text(data):
    return ".".join(str(byte) for byte in data)


def checksum(data):
    """RFC 1071, the plain way."""
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


# --------------------------------------------------------------------------------------------------
# Building.

def build_ethernet(payload, kind=TYPE_IPV4, to=GUEST_MAC, source=PEER_MAC):
    return to + source + struct.pack("!H", kind) + payload


def build_vlan(frame, tag):
    return frame[:12] + struct.pack("!HH", TYPE_VLAN, tag) + frame[12:]


def build_arp(operation, sender_ip, target_ip, sender_mac=PEER_MAC, target_mac=b"\0" * 6,
              to=BROADCAST_MAC):
    body = struct.pack("!HHBBH", 1, TYPE_IPV4, 6, 4, operation)
    body += sender_mac + ip_bytes(sender_ip) + target_mac + ip_bytes(target_ip)
    return build_ethernet(body.ljust(46, b"\0"), TYPE_ARP, to, sender_mac)


def build_ipv4(payload, protocol, source=PEER_IP, to=GUEST_IP, ident=0, fragment=0, ttl=64,
               options=b"", sum_xor=0, total=None, version=4):
    length = 20 + len(options)
    header = struct.pack("!BBHHHBBH4s4s", version << 4 | length // 4, 0,
                         length + len(payload) if total is None else total, ident, fragment, ttl,
                         protocol, 0, ip_bytes(source), ip_bytes(to)) + options
    return header[:10] + struct.pack("!H", checksum(header) ^ sum_xor) + header[12:] + payload


def build_icmp(kind, code, rest, sum_xor=0):
    body = struct.pack("!BBH", kind, code, 0) + rest
    return body[:2] + struct.pack("!H", checksum(body) ^ sum_xor) + body[4:]


def build_echo(sequence, payload, identifier=0x4242, sum_xor=0):
    return build_icmp(8, 0, struct.pack("!HH", identifier, sequence & 0xFFFF) + payload, sum_xor)


def build_udp(payload, source_port, port, source=PEER_IP, to=GUEST_IP, with_sum=True, sum_xor=0,
              length=None):
    length = 8 + len(payload) if length is None else length
    header = struct.pack("!HHHH", source_port, port, length, 0)
    if not with_sum:
        return header + payload
    pseudo = ip_bytes(source) + ip_bytes(to) + struct.pack("!HH", UDP, 8 + len(payload))
    total = (checksum(pseudo + header + payload) or 0xFFFF) ^ sum_xor
    return header[:6] + struct.pack("!H", total) + payload


def build_fragments(payload, protocol, ident, piece=1480, **fields):
    """The frames of one datagram, in order."""
    frames = []
    for first in range(0, len(payload), piece):
        more = first + piece < len(payload)
        frames.append(build_ethernet(build_ipv4(
            payload[first:first + piece], protocol, ident=ident,
            fragment=(0x2000 if more else 0) | first // 8, **fields)))
    return frames


def build_dhcp(kind, xid, address, server=PEER_IP, lease=3600, mac=GUEST_MAC, router=PEER_IP,
               to=BROADCAST_IP, to_mac=BROADCAST_MAC, more=b""):
    fixed = DHCP_FIXED.pack(2, 1, 6, 0, xid, 0, 0, bytes(4), ip_bytes(address), ip_bytes(server),
                            bytes(4), mac.ljust(16, b"\0"), b"", b"", DHCP_COOKIE)
    options = bytes((53, 1, kind, 54, 4)) + ip_bytes(server)
    if kind != NAK:
        options += b"\x33\x04" + struct.pack("!I", lease) + b"\x01\x04" + ip_bytes(MASK)
        options += b"\x03\x04" + ip_bytes(router) + more
    udp = build_udp(fixed + options + b"\xff", 67, 68, server, to)
    return build_ethernet(build_ipv4(udp, UDP, server, to), TYPE_IPV4, to_mac)


# --------------------------------------------------------------------------------------------------
# Reading.

class BadFrame(Exception):
    """What the guest has sent is not what the RFCs say; the text says why."""


@dataclass
class Packet:
    """A frame of the guest's, taken apart."""
    frame: bytes
    to: bytes
    source: bytes
    kind: int
    operation: int = 0  # of ARP
    sender_ip: str = ""
    target_ip: str = ""
    sender_mac: bytes = b""
    protocol: int = 0
    ident: int = 0
    fragment: int = 0
    payload: bytes = b""  # of IPv4, or of a whole UDP datagram
    ports: tuple = ()
    time: float = field(default_factory=time.monotonic)


def parse(frame):
    require(len(frame) >= 14, "shorter than an Ethernet header")
    packet = Packet(frame, frame[:6], frame[6:12], struct.unpack("!H", frame[12:14])[0])
    require(packet.source == GUEST_MAC, "not from the guest's station")
    if packet.kind == TYPE_ARP:
        parse_arp(packet)
    elif packet.kind == TYPE_IPV4:
        parse_ipv4(packet)
    else:
        raise BadFrame(f"of type 0x{packet.kind:04x}")
    return packet


def require(condition, sentence):
    if not condition:
        raise BadFrame(sentence)


def parse_arp(packet):
    body = packet.frame[14:42]
    require(len(body) == 28, "ARP is too short")
    require(body[:6] == bytes.fromhex("000108000604"), "ARP is not of Ethernet and IPv4")
    packet.operation = struct.unpack("!H", body[6:8])[0]
    packet.sender_mac = body[8:14]
    packet.sender_ip, packet.target_ip = ip_text(body[14:18]), ip_text(body[24:28])
    require(packet.sender_mac == packet.source, "ARP names another sender than Ethernet")


def parse_ipv4(packet):
    data = packet.frame[14:]
    require(len(data) >= 20 and data[0] >> 4 == 4, "no IPv4 header")
    length, total = (data[0] & 15) * 4, struct.unpack("!H", data[2:4])[0]
    require(20 <= length <= total <= len(data), "IPv4 lengths do not fit")
    require(total == len(data) or len(packet.frame) <= 60, "bytes behind the datagram")
    require(not any(data[total:]), "the padding is not zero")
    require(checksum(data[:length]) == 0, "wrong IPv4 checksum")
    packet.ident, packet.fragment = struct.unpack("!HH", data[4:8])
    packet.protocol = data[9]
    packet.sender_ip, packet.target_ip = ip_text(data[12:16]), ip_text(data[16:20])
    packet.payload = data[length:total]
    if packet.fragment & 0x3FFF == 0:
        parse_transport(packet)


def parse_transport(packet):
    data = packet.payload
    if packet.protocol == ICMP:
        require(len(data) >= 8 and checksum(data) == 0, "wrong ICMP checksum")
    elif packet.protocol == UDP:
        require(len(data) >= 8, "no UDP header")
        source, port, length, total = struct.unpack("!HHHH", data[:8])
        require(length == len(data), "wrong UDP length")
        pseudo = ip_bytes(packet.sender_ip) + ip_bytes(packet.target_ip)
        pseudo += struct.pack("!HH", UDP, length)
        require(total == 0 or checksum(pseudo + data) == 0, "wrong UDP checksum")
        packet.ports = (source, port)
        packet.payload = data[8:]
    else:
        raise BadFrame(f"of protocol {packet.protocol}")


@dataclass
class DhcpMessage:
    kind: int
    xid: int
    client: str  # ciaddr
    options: dict
    packet: Packet


def parse_dhcp(packet):
    require(len(packet.payload) >= 240, "a DHCP message that is too short")
    fields = DHCP_FIXED.unpack(packet.payload[:DHCP_FIXED.size])
    require(fields[0] == 1 and fields[14] == DHCP_COOKIE, "no DHCP request")
    require(fields[11][:6] == GUEST_MAC, "DHCP for another station")
    options, data = {}, packet.payload[DHCP_FIXED.size:]
    while data and data[0] != 255:
        if data[0] == 0:
            data = data[1:]
            continue
        options[data[0]] = data[2:2 + data[1]]
        data = data[2 + data[1]:]
    return DhcpMessage(options[53][0], fields[4], ip_text(fields[7]), options, packet)


def read_pcap(path):
    """[(frame's length on the wire, its bytes)] of what filter-dump has kept."""
    data = path.read_bytes()
    require(data[:4] in (b"\xd4\xc3\xb2\xa1", b"\xa1\xb2\xc3\xd4"), "no pcap file")
    order = "<" if data[0] == 0xD4 else ">"
    frames, offset = [], 24
    while offset + 16 <= len(data):
        _, _, kept, length = struct.unpack(order + "IIII", data[offset:offset + 16])
        frames.append((length, data[offset + 16:offset + 16 + kept]))
        offset += 16 + kept
    return frames


# --------------------------------------------------------------------------------------------------
# The station.

class PeerError(Exception):
    """The guest did not do what it should; the text says what."""


class Lease:
    """The peer's DHCP server: what it answers is a list of kinds that a script may fill; then, always
    the usual."""

    def __init__(self, seconds=3600, address=GUEST_IP):
        self.seconds = seconds
        self.address = address
        self.script = []  # of kinds; None: say nothing
        self.more = b""  # options
        self.heard = []  # DhcpMessages

    def answer(self, message):
        """A frame, or None."""
        self.heard.append(message)
        usual = {DISCOVER: OFFER, REQUEST: ACK}.get(message.kind)
        kind = self.script.pop(0) if self.script and usual else usual
        if kind is None:
            return None
        is_renewal = message.client != "0.0.0.0"
        return build_dhcp(kind, message.xid, "0.0.0.0" if kind == NAK else self.address,
                          lease=self.seconds, more=self.more,
                          to=message.client if is_renewal else BROADCAST_IP,
                          to_mac=GUEST_MAC if is_renewal else BROADCAST_MAC)


class Peer:
    """One end of the wire; `qemu_end` is the other."""

    def __init__(self, lease=None):
        self.wire, self.qemu_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.wire.setblocking(False)
        self.lease = lease
        self.inbox = []  # Packets that nobody has asked for yet
        self.sent = self.received = 0
        self.claimed = {PEER_IP}  # addresses that the peer answers ARP for
        self.answers_arp = True
        self.sequence = 0

    def close(self):
        self.wire.close()
        self.qemu_end.close()

    def netdev(self):
        return f"dgram,id=net,local.type=fd,local.str={self.qemu_end.fileno()}"

    # ------------------------------------------------------------------------------------------
    # Frames.

    def send(self, *frames, seconds=20):
        deadline = time.monotonic() + seconds
        for frame in frames:
            while True:
                try:
                    self.wire.send(frame)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise PeerError("QEMU takes no more frames") from None
                    self.pump(0)
                    select.select([], [self.wire], [], 0.01)
            self.sent += 1

    def pump(self, seconds):
        """Takes what has come, or waits for something to come. False: nothing did."""
        if not select.select([self.wire], [], [], seconds)[0]:
            return False
        try:
            frame = self.wire.recv(FRAME_LIMIT)
        except BlockingIOError:
            return False
        self.received += 1
        try:
            packet = parse(frame)
            if not self.serve(packet):
                self.inbox.append(packet)
        except BadFrame as reason:
            raise PeerError(f"a frame of the guest's is wrong: {reason}: {frame.hex()}") from None
        return True

    def serve(self, packet):
        """What a station does by itself. True: nobody else need see it."""
        if packet.kind == TYPE_ARP:
            if packet.operation == 1 and packet.target_ip in self.claimed and self.answers_arp:
                self.send(build_arp(2, packet.target_ip, packet.sender_ip, PEER_MAC,
                                    packet.sender_mac, packet.source))
                return packet.target_ip == PEER_IP
            return False
        if packet.protocol == ICMP and packet.payload[:1] == b"\x08":
            self.send(build_ethernet(build_ipv4(build_icmp(0, 0, packet.payload[4:]), ICMP,
                                                packet.target_ip, packet.sender_ip)))
            return True
        if packet.ports == (68, 67) and self.lease is not None:
            answer = self.lease.answer(parse_dhcp(packet))
            if answer:
                self.send(answer)
            return True
        return False

    def expect(self, wanted, what, seconds=5):
        """The first packet that has come, or comes, that is wanted; it is taken out."""
        deadline = time.monotonic() + seconds
        while True:
            for index, packet in enumerate(self.inbox):
                if wanted(packet):
                    return self.inbox.pop(index)
            left = deadline - time.monotonic()
            if left <= 0:
                raise PeerError(f"no {what} within {seconds} s")
            self.pump(left)

    def wait(self, condition, what, seconds=10):
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise PeerError(f"no {what} within {seconds} s")
            self.pump(0.05)

    def drain(self, quiet=0.3):
        while self.pump(quiet):
            pass

    # ------------------------------------------------------------------------------------------
    # Questions.

    def resolve(self, address=GUEST_IP):
        """The guest's Ethernet address, by ARP."""
        self.send(build_arp(1, PEER_IP, address))
        reply = self.expect(lambda packet: packet.kind == TYPE_ARP and packet.operation == 2 and
                            packet.sender_ip == address, "ARP reply")
        return reply.sender_mac

    def ping(self, size, seconds=5, piece=1480):
        """Seconds until the reply has come, whole and the same."""
        self.sequence += 1
        sequence = self.sequence
        payload = bytes((index * 7 + sequence) & 0xFF for index in range(size))
        message = build_echo(sequence, payload)
        started = time.monotonic()
        if len(message) > MTU - 20:
            self.send(*build_fragments(message, ICMP, sequence & 0xFFFF, piece))
            reply = self.collect_fragments(seconds)
        else:
            self.send(build_ethernet(build_ipv4(message, ICMP, ident=sequence & 0xFFFF)))
            reply = self.expect(lambda packet: packet.protocol == ICMP and
                                packet.payload[:1] == b"\0" and
                                packet.payload[4:8] == message[4:8],
                                f"echo reply of {size} bytes", seconds).payload
        if reply[0] != 0 or reply[4:] != message[4:] or checksum(reply):
            raise PeerError(f"the echo reply of {size} bytes is not what was sent")
        return time.monotonic() - started

    def collect_fragments(self, seconds=5):
        """The payload of the next datagram that comes in fragments."""
        pieces, ident, total = {}, None, None
        while total is None or sum(map(len, pieces.values())) < total:
            packet = self.expect(lambda packet: packet.fragment & 0x3FFF and
                                 (ident is None or packet.ident == ident), "fragment", seconds)
            ident = packet.ident
            first = (packet.fragment & 0x1FFF) * 8
            pieces[first] = packet.payload
            if not packet.fragment & 0x2000:
                total = first + len(packet.payload)
        return b"".join(pieces[first] for first in sorted(pieces))

    def udp_echo(self, payload, with_sum=True):
        port = 40000 + self.sequence % 20000
        self.sequence += 1
        datagram = build_udp(payload, port, ECHO_PORT, with_sum=with_sum)
        if len(datagram) > MTU - 20:
            self.send(*build_fragments(datagram, UDP, self.sequence & 0xFFFF))
            data = self.collect_fragments()
            reply = data[8:]
        else:
            self.send(build_ethernet(build_ipv4(datagram, UDP)))
            reply = self.expect(lambda packet: packet.ports == (ECHO_PORT, port),
                                "UDP echo").payload
        if reply != payload:
            raise PeerError(f"the echo of {len(payload)} bytes is not what was sent")

    def ask_state(self, name, seconds=3, attempts=3):
        """A report, put together from its datagrams; missing ones are asked for again."""
        for _ in range(attempts):
            self.sequence += 1
            word = f"n{self.sequence}"
            port = 30000 + self.sequence % 5000
            self.send(build_ethernet(build_ipv4(build_udp(f"{name} {word}".encode(), port,
                                                          STATE_PORT), UDP)))
            try:
                return self.collect_state(name, word, port, seconds)
            except PeerError as error:
                last = error
        raise PeerError(f"no report {name}: {last}")

    def collect_state(self, name, word, port, seconds):
        pieces, count = {}, None
        while count is None or len(pieces) < count:
            packet = self.expect(lambda packet: packet.ports == (STATE_PORT, port), "state",
                                 seconds)
            head, _, text = packet.payload.partition(b"\n")
            words = head.decode().split(" ")
            if words[:2] != ["IoSpace", word] or words[3] != name:
                raise PeerError(f"a head that nobody asked for: {head}")
            number, count = map(int, words[2].split("/"))
            pieces[number] = text
        return b"".join(pieces[number] for number in sorted(pieces)).decode("latin-1")
