"""Network namespaces without names: one per host, alive as long as a process or an open file refers to it.

There is nothing to sweep: when the process that holds them ends, however it ends, the kernel removes the namespaces
with all that is in them, devices, addresses and queues. All of this needs root (CAP_SYS_ADMIN and CAP_NET_ADMIN).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from mpcnet.errors import MpcError

CLONE_NEWNET = 0x40000000
SELF = "/proc/self/ns/net"

BUFFER_MOST = 64 << 20  # bytes; 1 Gbit/s x 40 ms needs 5 MB, and the kernel counts about twice what it holds
# Congestion control is left as the machine has it: a namespace may only choose what the machine allows everybody, so
# elsewhere the choice could not be made. Probes name it in every result.
SYSCTLS: Mapping[str, str] = {
    # Rounds are bursts after waits. By default a connection that was silent for 0.2 s starts slowly again, and the
    # next round pays several round trips for it; whoever runs such a service sets this too.
    "net/ipv4/tcp_slow_start_after_idle": "0",
    "net/ipv4/tcp_no_metrics_save": "1",  # else a connection starts with what an earlier one learned
    "net/ipv4/tcp_rmem": f"4096 131072 {BUFFER_MOST}",
    "net/ipv4/tcp_wmem": f"4096 131072 {BUFFER_MOST}",
    "net/ipv6/conf/all/disable_ipv6": "1",  # no packets but the parties'
    "net/ipv6/conf/default/disable_ipv6": "1",
}


class NetworkFailed(MpcError):
    """A network could not be made, or has ended."""


def _system_call(name: str, *arguments: int) -> None:
    """unshare and setns: Python has them from 3.12 on."""
    library = ctypes.CDLL(None, use_errno=True)
    if getattr(library, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise NetworkFailed(f"{name}: {os.strerror(number)}; network namespaces need root, in a container privileges")


def enter(namespace: int) -> None:
    """Move the calling thread, and what it starts from now on, into a namespace.

    :raises NetworkFailed: the kernel refuses.
    """
    _system_call("setns", namespace, CLONE_NEWNET)


@contextlib.contextmanager
def back_again() -> Iterator[None]:
    """Whatever namespace is entered within, the calling thread is where it was afterwards."""
    home = os.open(SELF, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield
        enter(home)
    finally:
        os.close(home)


def enter_new() -> int:
    """Move into a new namespace with our settings and its loopback up; returns the open file that keeps it alive.

    :raises NetworkFailed: the kernel refuses.
    """
    _system_call("unshare", CLONE_NEWNET)
    namespace = os.open(SELF, os.O_RDONLY | os.O_CLOEXEC)
    for name, value in SYSCTLS.items():
        path = Path("/proc/sys") / name  # shows the settings of the namespace of whoever looks
        if path.exists() or "ipv6" not in name:
            _set(path, value)
    configure("ip", "link set lo up")
    return namespace


def _set(path: Path, value: str) -> None:
    try:
        path.write_text(value)
    except OSError as error:
        raise NetworkFailed(f"{path}: cannot set it to {value!r}: {error.strerror}") from None


def configure(tool: str, *lines: str) -> None:
    """Have `ip` or `tc` carry out these lines in the namespace of the calling thread.

    :raises NetworkFailed: one of them fails.
    """
    done = subprocess.run([tool, "-batch", "-"], input="\n".join(lines), text=True, capture_output=True)  # noqa: S603
    if done.returncode != 0:
        raise NetworkFailed(f"{tool}: {done.stderr.strip()}")


def kill_all_in(namespaces: Collection[int]) -> None:
    """Kill every process in these namespaces but the calling one; returns when none is left.

    The open files are renumbered first, so that nobody can come in any more by their old paths. They stay open, so that
    no new namespace gets the same name meanwhile.
    """
    names = {os.readlink(f"/proc/self/fd/{namespace}") for namespace in namespaces}
    for namespace in namespaces:
        os.dup(namespace)
    for namespace in namespaces:
        os.close(namespace)
    while any([_kill_in(names, int(name)) for name in os.listdir("/proc") if name.isdigit()]):
        pass  # one may have started another meanwhile


def _kill_in(names: Collection[str], pid: int) -> bool:
    with contextlib.suppress(OSError):  # it has ended
        if pid != os.getpid() and _is_in(names, pid):
            handle = os.pidfd_open(pid)
            try:
                if _is_in(names, pid):  # still the same process: pids are used again
                    signal.pidfd_send_signal(handle, signal.SIGKILL)
                    return True
            finally:
                os.close(handle)
    return False


def _is_in(names: Collection[str], pid: int) -> bool:
    """In a namespace, or about to go there: then it has the namespace open. In this order, or one slips through."""
    for number in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            if os.readlink(f"/proc/{pid}/fd/{number}") in names:
                return True
    return os.readlink(f"/proc/{pid}/ns/net") in names
