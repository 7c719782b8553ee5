#!/bin/sh
# Makes sure that what a target needs is installed: `setup.sh driver`, `setup.sh test`,
# `setup.sh check` or `setup.sh peer`. (To build drivers with clang, install clang as well.)
# Nothing missing: says nothing. As root on Debian or Ubuntu: installs it. Otherwise: prints the one
# line to run, and fails.
set -eu

PATH=$PATH:/usr/sbin:/sbin # sgdisk and mkfs.fat live there

# One row for each need: what proves it (a command, or a file), and the package that has it.
driver_needs='
python3 python3
x86_64-w64-mingw32-gcc gcc-mingw-w64-x86-64
x86_64-w64-mingw32-dlltool binutils-mingw-w64-x86-64
/usr/x86_64-w64-mingw32/include/ddk/ntddk.h mingw-w64-x86-64-dev
'
test_needs=$driver_needs'
qemu-system-x86_64 qemu-system-x86
/usr/lib/grub/i386-pc/cdboot.img grub-pc-bin
/usr/lib/grub/x86_64-efi/modinfo.sh grub-efi-amd64-bin
grub-mkrescue grub-common
xorriso xorriso
mformat mtools
mkfs.fat dosfstools
sgdisk gdisk
/usr/share/ovmf/OVMF.fd ovmf
bochs bochs
/usr/lib/x86_64-linux-gnu/bochs/plugins/libbx_term_gui.so bochs-term
/usr/share/bochs/BIOS-bochs-latest bochsbios
/usr/share/bochs/VGABIOS-lgpl-latest vgabios
gdb gdb
spin spin
/usr/include/stdio.h libc6-dev
'
check_needs='
python3 python3
clang clang
clang-format clang-format
clang-tidy clang-tidy
cppcheck cppcheck
'

# What compiles a module for Linux. The kernel and its headers are not installed: tests/peer/debian.py.
peer_needs='
apt-get apt
dpkg-deb dpkg
gcc-12 gcc-12
make make
bc bc
strip binutils
/usr/lib/x86_64-linux-gnu/libelf.so.1 libelf1
'

# Without it a test of __try in drivers is skipped, as not every Debian and Ubuntu has one that is new
# enough (kernel/kit/makedriver.py).
test_wishes='
clang-19 clang-19
'

exists() {
    case $1 in
    /*) [ -e "$1" ] ;;
    *) command -v "$1" >/dev/null 2>&1 ;;
    esac
}

can_be_had() {
    command -v apt-cache >/dev/null 2>&1 && [ -n "$(apt-cache madison "$1" 2>/dev/null)" ]
}

case ${1:-} in
driver) needs=$driver_needs ;;
test) needs=$test_needs ;;
check) needs=$check_needs ;;
peer) needs=$peer_needs ;;
*)
    echo "usage: setup.sh driver|test|check|peer" >&2
    exit 2
    ;;
esac

missing=$(echo "$needs" | while read -r proof package; do
    [ -z "$proof" ] || exists "$proof" || printf ' %s' "$package"
done)
if [ "$1" = test ] && [ "$(id -u)" = 0 ]; then
    missing=$missing$(echo "$test_wishes" | while read -r proof package; do
        [ -z "$proof" ] || exists "$proof" || ! can_be_had "$package" || printf ' %s' "$package"
    done)
fi
[ -n "$missing" ] || exit 0

install="apt-get install --no-install-recommends -y$missing"
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "Installing what is missing: $install"
    export DEBIAN_FRONTEND=noninteractive
    # shellcheck disable=SC2086 # a list of words on purpose
    log=$(mktemp)
    { apt-get update -q && $install; } >"$log" 2>&1 || {
        tail -n 20 "$log" >&2
        echo "Could not install the packages; run: $install" >&2
        exit 1
    }
    exit 0
fi
echo "Missing tools. Run: sudo $install" >&2
exit 1
