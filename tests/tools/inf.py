#!/usr/bin/env python3
"""What a driver's INF file says: the hardware ids that the driver is for, its service, its values.

  inf.py FILE.inf      prints them

As much of the format as drivers of one function use: sections, comments, continued lines, quoted
values, %strings%, models with and without decoration (NTamd64), the services section and AddReg below
it. Sections and keys have no case.
"""

import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

MACHINE = "ntamd64"
DECORATIONS = (f".{MACHINE}", ".nt", "")
PIECE = re.compile(r'"((?:[^"]|"")*)"|([^,"]+)|(,)')
MESSAGES_KEY = "interrupt management\\messagesignaledinterruptproperties"
MESSAGES_WITHOUT_LIMIT = 16
REG_TYPES = {0x0: "REG_SZ", 0x1: "REG_BINARY", 0x10000: "REG_MULTI_SZ", 0x20000: "REG_EXPAND_SZ",
             0x10001: "REG_DWORD"}


class BadInf(Exception):
    pass


@dataclass
class Inf:
    path: Path
    sections: dict = field(default_factory=dict)  # {name: [(key, [values])]}, keys and names lower
    hardware_ids: list = field(default_factory=list)
    service: str = None
    values: list = field(default_factory=list)  # (name, type, value) of the service's Parameters
    filter: str = None  # "lower" or "upper": where the driver stands, if it is a filter
    messages: int = 0  # how many interrupts by message a device may have; 0: it is to have its line


def decode(data):
    for mark, encoding in ((b"\xff\xfe", "utf-16-le"), (b"\xef\xbb\xbf", "utf-8")):
        if data.startswith(mark):
            return data[len(mark):].decode(encoding)
    return data.decode("latin-1")


def without_comment(line):
    """A semicolon within quotes is none."""
    is_quoted = False
    for index, character in enumerate(line):
        if character == '"':
            is_quoted = not is_quoted
        elif character == ";" and not is_quoted:
            return line[:index]
    return line


def whole_lines(text):
    """Lines without comments and blanks; one that ends with a backslash goes on in the next."""
    pending = ""
    for line in text.splitlines():
        line = (pending + without_comment(line)).strip()
        pending = ""
        if line.endswith("\\"):
            pending = line[:-1]
        elif line:
            yield line


def split_values(text):
    """Values between commas; quotes go, a doubled quote is one."""
    values, current, had = [], "", False
    for quoted, plain, comma in PIECE.findall(text):
        if comma:
            values.append(current)
            current = ""
        elif plain:
            current += plain.strip()
        else:
            current += quoted.replace('""', '"')
        had = True
    return values + [current] if had else []


def read_sections(text):
    sections, name = {}, None
    for line in whole_lines(text):
        if line.startswith("["):
            name = line.strip("[] \t").lower()
            sections.setdefault(name, [])
            continue
        key, equals, rest = line.partition("=")
        if name is None:
            raise BadInf(f"'{line}' stands before every section")
        if equals and '"' not in key:
            sections[name].append((key.strip(), split_values(rest)))
        else:
            sections[name].append(("", split_values(line)))
    return sections


def replace_strings(sections):
    strings = {key.lower(): ",".join(values) for key, values in sections.get("strings", [])}

    def replace(text):
        return re.sub(r"%([^%]*)%", lambda match: strings.get(match[1].lower(), match[0])
                      if match[1] else "%", text)
    return {name: [(replace(key), [replace(value) for value in values]) for key, values in lines]
            for name, lines in sections.items()}


def first_section(sections, name):
    """Of the forms that a section may have for this machine, the one that counts."""
    for decoration in DECORATIONS:
        if name.lower() + decoration in sections:
            return name.lower() + decoration
    return None


def models(sections):
    """(install section, hardware and compatible ids) of every model for this machine."""
    for _, values in sections.get("manufacturer", []):
        if not values:
            continue
        targets = [target.strip().lower() for target in values[1:]]
        # NTamd64, or NTamd64.10.0...16299: of the targets for this machine, the last one listed.
        mine = [target for target in targets if target.split(".")[0] in (MACHINE, "nt")]
        name = f"{values[0].lower()}.{mine[-1]}" if mine else values[0].lower()
        for _, row in sections.get(name, []):
            if row:
                yield row[0], [value for value in row[1:] if value]


def number(text):
    return int(text, 0) if text else 0


def registry_values(sections, name):
    for _, row in sections.get(name.lower(), []):
        root, key, value_name, flags, *data = [*row, "", "", "", ""][:4] + row[4:]
        if root.upper() != "HKR" or key.lower() != "parameters":
            continue
        kind = REG_TYPES.get(number(flags) & 0x30001, "REG_SZ")
        yield value_name, kind, decoded_data(kind, data)


def decoded_data(kind, data):
    """A number, bytes, a list of texts, or a text."""
    if kind == "REG_DWORD":
        return number(data[0]) if data else 0
    if kind == "REG_BINARY":
        return bytes(int(text, 16) for text in data if text)
    return data if kind == "REG_MULTI_SZ" else ",".join(data)


def argument(name, kind, value):
    """A value as an argument of the driver's module (kernel/io/parameter.c)."""
    def escaped(text):
        return "".join(c if c.isalnum() or c in "-_.:\\/{}" else f"%{ord(c):02X}" for c in text)
    texts = {"REG_DWORD": lambda: f"dword:{value}", "REG_BINARY": lambda: f"binary:{value.hex()}",
             "REG_SZ": lambda: f"sz:{escaped(value)}",
             "REG_EXPAND_SZ": lambda: f"expand:{escaped(value)}",
             "REG_MULTI_SZ": lambda: f"multi:{','.join(map(escaped, value))}"}
    return f"value:{escaped(name)}={texts[kind]()}"


def read_service(inf, install):
    services = first_section(inf.sections, install)
    services = services and inf.sections.get(f"{services}.services")
    for key, values in services or []:
        if key.lower() != "addservice" or len(values) < 3 or not values[2]:
            continue
        inf.service = values[0]
        for key, names in inf.sections.get(values[2].lower(), []):
            if key.lower() == "addreg":
                for name in names:
                    inf.values += registry_values(inf.sections, name)
        return


def read_filter(inf, install):
    """AddFilter, and FilterPosition in the section that it names."""
    section = first_section(inf.sections, install)
    for key, values in inf.sections.get(f"{section}.filters", []):
        if key.lower() != "addfilter" or len(values) < 3:
            continue
        for name, position in inf.sections.get(values[2].lower(), []):
            if name.lower() == "filterposition" and position[0].lower() in ("lower", "upper"):
                inf.filter = position[0].lower()


def read_messages(inf, install):
    """Below the device's key: MSISupported and MessageNumberLimit."""
    hardware = first_section(inf.sections, install)
    rows = {}
    for key, names in inf.sections.get(f"{hardware}.hw", []):
        if key.lower() == "addreg":
            for row in (row for name in names for _, row in inf.sections.get(name.lower(), [])):
                if len(row) >= 5 and row[1].lower() == MESSAGES_KEY:
                    rows[row[2].lower()] = number(row[4])
    if rows.get("msisupported"):
        inf.messages = rows.get("messagenumberlimit", MESSAGES_WITHOUT_LIMIT)


def read(path):
    """An Inf. Raises BadInf, OSError."""
    inf = Inf(Path(path))
    inf.sections = replace_strings(read_sections(decode(inf.path.read_bytes())))
    if "version" not in inf.sections:
        raise BadInf(f"{path}: has no section [Version]")
    for install, ids in models(inf.sections):
        inf.hardware_ids += [text for text in ids if text not in inf.hardware_ids]
        if inf.service is None:
            read_service(inf, install)
            read_filter(inf, install)
            read_messages(inf, install)
    return inf


def main():
    for path in sys.argv[1:]:
        inf = read(path)
        print(f"{path}: service {inf.service or '(none)'}")
        for text in inf.hardware_ids:
            print(f"  {text}")
        for name, kind, value in inf.values:
            print(f"  {name} = {value} ({kind})")
        if inf.filter:
            print(f"  {inf.filter} filter")
        if inf.messages:
            print(f"  interrupts by up to {inf.messages} messages")


if __name__ == "__main__":
    try:
        main()
    except (BadInf, OSError) as error:
        sys.exit(str(error))
