#!/usr/bin/env bash
# Runs the tests of this folder where there are real cameras: in a guest with Debian's kernel and its virtual camera
# driver, vivid, under QEMU. The guest sees this machine's files, read-only; what it writes stays in its memory.
#
#   tests/vm/run.sh [ARGUMENTS OF PYTEST]
#
# PYTHON=.venv/bin/python chooses the interpreter, which needs edgedet and pytest. VM_CACHE=folder keeps the kernel.
# VM_TIMEOUT=seconds ends a guest that hangs. Exit code: pytest's; 77 where this machine cannot run it, with the reason.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
checkout=$(cd "$here/../.." && pwd)
python=$(command -v "${PYTHON:-$checkout/.venv/bin/python}") || { echo "No python: set PYTHON" >&2; exit 2; }
case $python in /*) ;; *) python=$PWD/$python ;; esac
cache=${VM_CACHE:-${TMPDIR:-/tmp}/edgedet-vm-$(id -u)}
limit=${VM_TIMEOUT:-900}

skip() { echo "skipped: $*"; exit 77; }
step() { printf '[vm %3d s] %s\n' "$SECONDS" "$*"; }

[ "$(uname -m)" = x86_64 ] || skip "the guest is an x86-64 machine, this one is $(uname -m)"
command -v apt-get >/dev/null || skip "QEMU and a kernel come from apt-get, which is not here"

missing=()
for need in qemu-system-x86:qemu-system-x86_64 busybox-static:busybox kmod:depmod cpio:cpio; do
  command -v "${need#*:}" >/dev/null || missing+=("${need%%:*}")
done
if [ ${#missing[@]} -gt 0 ]; then
  [ "$(id -u)" = 0 ] || skip "these packages are missing, and installing needs root: ${missing[*]}"
  step "Install ${missing[*]}"
  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
    apt-get install -qq -y --no-install-recommends "${missing[@]}"; } >/dev/null 2>&1 ||
    skip "these packages cannot be installed: ${missing[*]}"
fi
busybox=$(command -v busybox)
! ldd "$busybox" >/dev/null 2>&1 || skip "busybox is linked dynamically: install busybox-static"

# The generic kernel: the one for clouds has neither cameras nor 9p.
mkdir -p "$cache"
version=$(apt-cache depends linux-image-amd64 2>/dev/null | sed -n 's/.*Depends: linux-image-//p' | head -n 1)
kernel=$(find "$cache" -maxdepth 1 -name "kernel-${version:-*}" | sort -V | tail -n 1)
if [ -z "$kernel" ]; then
  [ -n "$version" ] || skip "apt-get knows no linux-image-amd64"
  step "Download the kernel $version"
  unpacked=$(mktemp -d "$cache/new.XXXXXX")
  (cd "$unpacked" && apt-get download -qq "linux-image-$version" >/dev/null 2>&1) || skip "the kernel cannot be downloaded"
  modules=./lib/modules/$version
  dpkg-deb --fsys-tarfile "$unpacked"/linux-image-*.deb | tar --extract --directory "$unpacked" --wildcards \
    './boot/vmlinuz-*' "$modules/modules.*" "$modules/kernel/drivers/media/*" "$modules/kernel/drivers/virtio/*" \
    "$modules/kernel/net/9p/*" "$modules/kernel/fs/9p/*" "$modules/kernel/fs/fscache/*" \
    "$modules/kernel/fs/netfs/*" "$modules/kernel/fs/overlayfs/*"
  rm "$unpacked"/linux-image-*.deb
  depmod -b "$unpacked" "$version"
  kernel=$cache/kernel-$version
  mv -T "$unpacked" "$kernel" 2>/dev/null || rm -rf "$unpacked"  # another run was faster
fi
version=${kernel##*/kernel-}

step "Pack the modules of $version"
work=$(mktemp -d "$cache/run.XXXXXX")
trap 'rm -rf "$work"' EXIT
root=$work/initramfs
mkdir -p "$root"/{bin,modules,proc,sys,dev,lower,upper,merged} "$work/share"
cp "$busybox" "$root/bin/busybox"
cp "$here/init" "$root/init"
chmod +x "$root/init"
for module in virtio_pci 9pnet_virtio 9p overlay vivid; do
  modprobe --dirname "$kernel" --set-version "$version" --show-depends "$module"
done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' | while read -r file; do
  cp "$file" "$root/modules/"
  basename "$file" >>"$root/modules/order"
done
(cd "$root" && find . | cpio --create --format=newc --quiet | gzip -1) >"$work/initramfs.gz"

# Compiled here, since the emulated machine would take minutes; what the other tests have compiled serves too.
cuda=$checkout/.pytest_cache/d
[ -d "$cuda/host_kernels" ] || cuda=$cache/cuda
if compiler=$(command -v "${CXX:-g++}") && "$python" -c 'import cuda.bindings' 2>/dev/null; then
  step "Compile the stand-in for CUDA"
  mkdir -p "$cuda/host_kernels" "$cuda/standin_cuda"
  CXX=$compiler PYTHONPATH=$checkout/tests/support "$python" - "$cuda" <<'END'
import sys
from pathlib import Path

import host_kernels
import standin_driver

host_kernels.build(Path(sys.argv[1], "host_kernels"))
standin_driver.build(Path(sys.argv[1], "standin_cuda"))
END
  printf 'export VM_CUDA=%q CXX=%q\n' "$cuda" "$compiler" >"$work/share/command"
fi

{
  printf 'cd %q && exec %q -m pytest --color=no -c pyproject.toml --confcutdir tests/vm -o cache_dir=/run/tmp/pytest tests/vm' \
    "$checkout" "$python"
  [ $# -eq 0 ] || printf ' %q' "$@"
  echo
} >>"$work/share/command"

# The clock is the timer that QEMU emulates: where this machine is busy, the kernel misjudges how fast the processor's
# counter runs, and an hour passes in minutes.
step "Boot"
status=0
timeout --kill-after=5 "$limit" nice qemu-system-x86_64 -machine q35 -accel tcg,thread=multi -cpu max \
  -smp 2 -m 1024 -nodefaults -no-user-config -no-reboot -display none -serial stdio -net none \
  -kernel "$kernel/boot/vmlinuz-$version" -initrd "$work/initramfs.gz" \
  -append "console=ttyS0 quiet loglevel=3 panic=-1 mitigations=off clocksource=hpet no_timer_check" \
  -fsdev local,id=host,path=/,security_model=none,readonly=on,multidevs=remap \
  -device virtio-9p-pci,fsdev=host,mount_tag=host \
  -fsdev local,id=share,path="$work/share",security_model=none \
  -device virtio-9p-pci,fsdev=share,mount_tag=share </dev/null || status=$?
step "Ended"
if [ ! -e "$work/share/status" ]; then
  echo "The guest gave no answer within $limit seconds (QEMU: $status)" >&2
  exit 1
fi
exit "$(cat "$work/share/status")"
