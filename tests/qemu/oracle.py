"""Compares what the guest says of its mappings with what QEMU's own page walker says: an MMU that
is not ours.

Both ways: each leaf that the guest reports must be there, and no other, except in the self-map, where
the tables themselves appear as pages.

The guest prints a line for each run of leaves, then `# oracle ready`, and waits until `g` arrives on
COM1:

  # map va=0xfffff88000003000 pa=0xfebd0000 pages=4 leaf=4K access=rw- cache=UC

`info tlb` walks the tables in memory, but prints neither the PAT bit nor the protection key; these
come from the raw entry, which this file finds by walking the tables through QEMU's view of physical
memory.
"""

import re

from verdict import Verdict

MAP_LINE = re.compile(
    r"^# map va=0x(?P<va>[0-9a-fA-F]+) pa=0x(?P<pa>[0-9a-fA-F]+) pages=(?P<pages>\d+) "
    r"leaf=(?P<leaf>4K|2M|1G) access=(?P<access>[r-][w-][x-]) cache=(?P<cache>WB|WC|UC)\s*$")
READY_LINE = "# oracle ready"
GO_ON = b"g"

PAGE_BYTES = 4096
LEAF_LEVEL = {"4K": 1, "2M": 2, "1G": 3}
CACHE_BITS = {"WB": (False, False), "WC": (False, True), "UC": (True, True)}  # (PCD, PWT)
TLB_LINE = re.compile(r"^([0-9a-f]{16}): ([0-9a-f]{16}) ([X-][G-][P-][D-][A-][C-][T-][U-][W-])")
TLB_FLAGS = "XGPDACTUW"

PRESENT = 1 << 0
LARGE = 1 << 7
TABLE_MASK = 0x000FFFFFFFFFF000
PAT_BIT = {1: 1 << 7, 2: 1 << 12, 3: 1 << 12}
KEY_SHIFT, KEY_MASK = 59, 0xF
EXECUTE_ONLY_KEY = 1
TOP_LEVEL = 4
SELF_MAP = range(0xFFFFF68000000000, 0xFFFFF70000000000)


class Oracle:
    """Listens to a guest; when it is ready, compares and lets it go on."""

    def __init__(self):
        self.lines = []
        self.verdict = Verdict()
        self.asked = False

    def listen(self, line, send, monitor):
        if line.startswith("# map "):
            self.lines.append(line)
        elif line.startswith(READY_LINE):
            self.asked = True
            try:
                compare(self.verdict, self.lines, monitor)
            finally:
                send(GO_ON)

    def finish(self):
        if not self.asked or not self.lines:
            self.verdict.failures.append("the guest did not report its mappings")
        return self.verdict


def compare(verdict, lines, monitor):
    leaves = read_leaves(monitor)
    unreported = {va for va in leaves if va not in SELF_MAP}
    root = int(re.search(r"CR3=([0-9a-f]+)", monitor.ask("info registers"))[1], 16) & TABLE_MASK
    for line in lines:
        match = MAP_LINE.match(line)
        if not match:
            verdict.failures.append(f"cannot be read: {line}")
            continue
        unreported -= set(leaf_addresses(match))
        complaint = compare_leaves(match, leaves) or compare_raw(match, monitor, root)
        verdict.check(complaint is None, f"QEMU's MMU disagrees: {complaint}; guest: {line}")
    first = f", the first at 0x{min(unreported):016x}" if unreported else ""
    verdict.check(not unreported, f"the guest does not report {len(unreported)} leaves{first}")


def read_leaves(monitor):
    """{va: (pa, {flag: is set})} of every leaf that `info tlb` finds; X means not executable."""
    leaves = {}
    for line in monitor.ask("info tlb").splitlines():
        if match := TLB_LINE.match(line):
            flags = {name: shown != "-" for name, shown in zip(TLB_FLAGS, match[3], strict=True)}
            leaves[int(match[1], 16)] = (int(match[2], 16), flags)
    return leaves


def leaf_byte_count(match):
    return PAGE_BYTES << (9 * (LEAF_LEVEL[match["leaf"]] - 1))


def leaf_addresses(match):
    first_va = int(match["va"], 16)
    return range(first_va, first_va + int(match["pages"]) * PAGE_BYTES, leaf_byte_count(match))


def compare_leaves(match, leaves):
    leaf_bytes = leaf_byte_count(match)
    first_va, first_pa = int(match["va"], 16), int(match["pa"], 16)
    byte_count = int(match["pages"]) * PAGE_BYTES
    if byte_count == 0 or byte_count % leaf_bytes:
        return f"{match['pages']} pages are not a number of {match['leaf']} leaves"
    for offset in range(0, byte_count, leaf_bytes):
        complaint = compare_leaf(match, leaves.get(first_va + offset), first_pa + offset)
        if complaint:
            return f"at 0x{first_va + offset:016x} {complaint}"
    return None


def compare_leaf(match, leaf, pa):
    if leaf is None:
        return "nothing is mapped"
    found_pa, flags = leaf
    cache_disabled, write_through = CACHE_BITS[match["cache"]]
    expected = {"P": match["leaf"] != "4K", "X": match["access"][2] != "x",
                "W": match["access"][1] == "w", "C": cache_disabled, "T": write_through, "U": False}
    if found_pa != pa:
        return f"the physical address is 0x{found_pa:x}, not 0x{pa:x}"
    wrong = [name for name, value in expected.items() if flags[name] != value]
    return f"the flags {', '.join(wrong)} differ" if wrong else None


def compare_raw(match, monitor, root):
    """The bits that `info tlb` hides, of the first page."""
    level, entry = read_entry(monitor, root, int(match["va"], 16))
    if level != LEAF_LEVEL[match["leaf"]]:
        return f"the leaf is at level {level}"
    if entry & PAT_BIT[level]:
        return "the PAT bit is set"
    if (entry >> KEY_SHIFT) & KEY_MASK != (EXECUTE_ONLY_KEY if match["access"] == "--x" else 0):
        return "the protection key is wrong"
    return None


def read_entry(monitor, root, va):
    """The level and the value of the entry that ends the walk for va."""
    table = root
    for level in range(TOP_LEVEL, 0, -1):
        index = va >> (12 + 9 * (level - 1)) & 0x1FF
        entry = int(monitor.ask(f"xp /1gx 0x{table + 8 * index:x}").split(":")[1], 16)
        if not entry & PRESENT or level == 1 or (level < TOP_LEVEL and entry & LARGE):
            break
        table = entry & TABLE_MASK
    return level, entry
