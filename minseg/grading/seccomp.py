"""System calls that a locked-in student's code may not make, as a filter for Linux's kernel.

Namespaces hide what is there, and limits count most of what a process takes. Left are a few calls
with which it could hold memory that no limit counts, reach what no namespace hides (sockets to a
virtual machine's host, the keys of a login), or escape the signal that ends it with its parent.
They fail with EPERM, "Operation not permitted". The filter is a program of classic BPF, a tiny
machine that sees the number of each call.

Source: Linux, Documentation/userspace-api/seccomp_filter.rst; the numbers, its syscall tables.
"""

import errno
import platform
import struct

# name: number on x86_64, number on aarch64 and riscv64
REFUSED = {
    # memory that no limit counts
    "shmget": (29, 194), "semget": (64, 190), "msgget": (68, 186), "mq_open": (240, 180),
    "memfd_create": (319, 279), "memfd_secret": (447, 447),
    # what no namespace hides
    "socket": (41, 198), "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219),
    # its parent's death, other processes, other namespaces, and corners of the kernel
    "prctl": (157, 167), "ptrace": (101, 117), "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271), "unshare": (272, 97), "setns": (308, 268), "mount": (165, 40),
    "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
}  # fmt: skip
MACHINES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7, "riscv64": 0xC00000F3}

LOAD, EQUAL, AT_LEAST, RETURN = 0x20, 0x15, 0x35, 0x06  # BPF's instructions
NUMBER, MACHINE = 0, 4  # where the kernel puts what the filter may look at
ALLOW, REFUSE = 0x7FFF0000, 0x00050000 | errno.EPERM
X32 = 0x40000000  # from here on, x86_64 counts its calls a second time


def program(machine: str | None = None) -> bytes:
    """The filter for this machine (platform.machine()); none, b"", for one that is not listed."""
    machine = machine or platform.machine()
    if machine not in MACHINES:
        return b""
    numbers = [both[machine != "x86_64"] for both in REFUSED.values()]
    end = len(numbers) + 5  # where the instruction that refuses stands; the one before it allows
    lines: list[bytes] = []

    def add(code: int, value: int, refuse_if: bool | None = None) -> None:
        jump = end - 1 - len(lines)  # over so many instructions
        if_true, if_false = jump if refuse_if is True else 0, jump if refuse_if is False else 0
        lines.append(struct.pack("=HBBI", code, if_true, if_false, value))

    add(LOAD, MACHINE)
    add(EQUAL, MACHINES[machine], refuse_if=False)
    add(LOAD, NUMBER)
    add(AT_LEAST, X32, refuse_if=True)
    for number in numbers:
        add(EQUAL, number, refuse_if=True)
    add(RETURN, ALLOW)
    add(RETURN, REFUSE)
    return b"".join(lines)
