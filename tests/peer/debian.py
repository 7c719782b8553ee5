"""Debian's own kernel, as it is in Debian's archive, made bootable with a module of ours; nothing is
installed, nothing needs root, and nothing outside the folder is touched.

The packages are downloaded by apt-get and unpacked into the folder: the kernel, its headers, which
compile the module, and busybox, which is the first program. From the kernel's image the kernel itself is
unpacked, because QEMU enters that directly, as it enters ours.
"""

import lzma
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

SOURCES = Path(__file__).resolve().parent / "linux"
META_PACKAGES = ("linux-image-amd64", "linux-headers-amd64")
# Drivers and what they need, in the order of their loading.
MODULES = ("crc64", "crct10dif_common", "crct10dif_generic", "crc-t10dif", "crc64_rocksoft_generic",
           "crc64-rocksoft", "t10-pi", "nvme-core", "nvme", "e1000")
XZ_BEGIN = b"\xfd7zXZ\x00"


class Unavailable(Exception):
    """Linux cannot be had here; the text says why."""


@dataclass(frozen=True)
class Linux:
    kernel: Path  # an ELF file that QEMU boots
    initramfs: Path
    release: str  # "6.1.0-56-amd64"
    version: str  # of the package


def run(*command, **options):
    done = subprocess.run(command, capture_output=True, text=True, **options)
    if done.returncode:
        raise Unavailable(f"{' '.join(map(str, command[:3]))}: {(done.stderr + done.stdout)[-2000:]}")
    return done.stdout


def dependency(package, pattern):
    """The package of this name that the package depends on."""
    for line in run("apt-cache", "depends", package).splitlines():
        match = re.fullmatch(rf"\s*Depends: ({pattern})", line)
        if match:
            return match[1]
    raise Unavailable(f"{package} is not what it was: it depends on no {pattern}")


def package_names():
    image, headers = (dependency(meta, r"linux-\w+-[0-9].*") for meta in META_PACKAGES)
    common = dependency(headers, "linux-headers-.*-common")
    build = dependency(headers, "linux-kbuild-.*")
    return image, headers, common, build, "busybox-static"


def download(folder):
    """{package: its file}, downloaded unless they are there."""
    try:
        names = package_names()
    except Unavailable:
        run("apt-get", "update", "-q")  # there are no lists yet; needs root
        names = package_names()
    folder.mkdir(parents=True, exist_ok=True)
    missing = [name for name in names if not list(folder.glob(f"{name}_*.deb"))]
    if missing:
        run("apt-get", "download", *missing, cwd=folder)
    return {name: next(iter(folder.glob(f"{name}_*.deb"))) for name in names}


def unpack(packages, root):
    """All but most of the kernel's own modules, which are large."""
    if root.exists():
        shutil.rmtree(root)
    root.mkdir(parents=True)
    for name, path in packages.items():
        if name.startswith("linux-image"):
            wanted = ["./boot", *(f"*/{module}.ko" for module in MODULES)]
            archive = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(path)],
                                       stdout=subprocess.PIPE)
            run("tar", "-x", "-C", str(root), "--wildcards", *wanted, stdin=archive.stdout)
            archive.wait()
        else:
            run("dpkg-deb", "-x", str(path), str(root))


def build_module(root, release, work):
    """The module, compiled against headers that stand where they were not meant to."""
    headers = root / "usr" / "src" / f"linux-headers-{release}"
    makefile = headers / "Makefile"
    makefile.write_text(re.sub(r"include (?=/usr/src)", f"include {root}", makefile.read_text()))
    work.mkdir(parents=True, exist_ok=True)
    for source in SOURCES.glob("*"):
        shutil.copy(source, work)
    run("make", "-C", str(headers), f"M={work}", "modules", env=None)
    run("strip", "--strip-debug", str(work / "peer.ko"))
    return work / "peer.ko"


def archive_entry(number, name, mode, data):
    """A file in the format of cpio that Linux takes ("newc")."""
    name = name.encode() + b"\0"
    fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name), 0)
    head = b"070701" + b"".join(b"%08x" % field for field in fields) + name
    return b"".join(part + b"\0" * (-len(part) % 4) for part in (head, data))


def make_initramfs(root, module, output):
    modules = {path.stem: path for path in root.rglob("*.ko")}
    lacking = [name for name in MODULES if name not in modules]
    if lacking:
        raise Unavailable(f"the kernel's package has no {', '.join(lacking)}")
    files = [("bin", 0o040755, b""), ("modules", 0o040755, b""),
             ("init", 0o100755, (SOURCES / "init").read_bytes()),
             ("bin/busybox", 0o100755, (root / "bin" / "busybox").read_bytes()),
             ("modules/order", 0o100644, "\n".join((*MODULES, "peer")).encode()),
             ("modules/peer.ko", 0o100644, module.read_bytes()),
             *((f"modules/{name}.ko", 0o100644, modules[name].read_bytes()) for name in MODULES),
             ("TRAILER!!!", 0, b"")]
    output.write_bytes(b"".join(archive_entry(number, *file) for number, file in enumerate(files, 1)))


def make_kernel(image, output):
    """The ELF file inside of a compressed kernel image."""
    data = image.read_bytes()
    place = data.find(XZ_BEGIN)
    if place < 0:
        raise Unavailable(f"{image.name} is not compressed by xz")
    output.write_bytes(lzma.LZMADecompressor().decompress(data[place:]))


def prepare(folder):
    """A Linux in this folder; made when it is not there, or the module's sources are newer."""
    folder = folder.resolve()
    packages = download(folder / "packages")
    image = next(name for name in packages if name.startswith("linux-image-"))
    release = image.removeprefix("linux-image-")
    version = packages[image].name.split("_")[1]
    root, kernel = folder / "root", folder / f"vmlinux-{release}"
    if not kernel.exists():
        unpack(packages, root)
        make_kernel(root / "boot" / f"vmlinuz-{release}", kernel)
    initramfs = folder / f"initramfs-{release}"
    newest = max(path.stat().st_mtime for path in SOURCES.glob("*"))
    if not initramfs.exists() or initramfs.stat().st_mtime < newest:
        make_initramfs(root, build_module(root, release, folder / "module"), initramfs)
    return Linux(kernel, initramfs, release, version)
