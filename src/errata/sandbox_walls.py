"""What the kernel keeps from a program, set up from inside the process that is to be confined. Standard library only.

Three walls, each used where the kernel has it: namespaces (processes, mounts and network of its own), Landlock (files), and
a seccomp filter (system calls). Behind them stand the limits of setrlimit, which every Unix has.
"""

import contextlib
import ctypes
import errno
import functools
import os
import platform
import resource
import struct
import sys
import sysconfig
from pathlib import Path
from typing import Any

LINUX = sys.platform == "linux"
SCRATCH = "/tmp"  # the only writable folder in a private root
_libc = ctypes.CDLL(None, use_errno=True)

_NEWNS, _NEWUTS, _NEWIPC, _NEWUSER, _NEWPID, _NEWNET = 0x20000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000
_NOSUID, _NODEV, _NOEXEC, _BIND, _REC, _PRIVATE = 2, 4, 8, 4096, 16384, 1 << 18

# System calls by number: the machine's first, then how the filter treats them.
_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}.get(platform.machine())
_COMMON = (
    "io_uring_setup 425 pidfd_send_signal 424 pidfd_open 434 pidfd_getfd 438 process_madvise 440 memfd_secret 447 "
    "fchmodat2 452 "
)
_REFUSED = {
    "x86_64": (
        "fork 57 vfork 58 execve 59 execveat 322 socket 41 tkill 200 rt_sigqueueinfo 129 rt_tgsigqueueinfo 297 ptrace 101 "
        "process_vm_readv 310 process_vm_writev 311 unshare 272 setns 308 bpf 321 perf_event_open 298 userfaultfd 323 "
        "keyctl 250 add_key 248 request_key 249 memfd_create 319 shmget 29 msgget 68 semget 64 mq_open 240 chmod 90 "
        "fchmod 91 fchmodat 268 chown 92 fchown 93 lchown 94 fchownat 260 utime 132 utimes 235 utimensat 280 futimesat "
        "261 setxattr 188 lsetxattr 189 fsetxattr 190 setpriority 141 sched_setaffinity 203 sched_setscheduler 144 "
        "sched_setparam 142 sched_setattr 314 ioprio_set 251 migrate_pages 256 move_pages 279 "
    ),
    "aarch64": (
        "execve 221 execveat 281 socket 198 tkill 130 rt_sigqueueinfo 138 rt_tgsigqueueinfo 240 ptrace 117 "
        "process_vm_readv 270 process_vm_writev 271 unshare 97 setns 268 bpf 280 perf_event_open 241 userfaultfd 282 "
        "keyctl 219 add_key 217 request_key 218 memfd_create 279 shmget 194 msgget 186 semget 190 mq_open 180 fchmod 52 "
        "fchmodat 53 fchown 55 fchownat 54 utimensat 88 setxattr 5 lsetxattr 6 fsetxattr 7 setpriority 140 "
        "sched_setaffinity 122 sched_setscheduler 119 sched_setparam 118 sched_setattr 274 ioprio_set 30 migrate_pages "
        "238 move_pages 239 "
    ),
}
_CLONE, _KILL, _TGKILL, _PRLIMIT, _PIVOT_ROOT = (
    (56, 62, 234, 302, 155) if platform.machine() == "x86_64" else (220, 129, 131, 261, 41)
)
_CLONE3, _MOUNT_SETATTR, _LANDLOCK = 435, 442, 444


def _kernel(function: str, *arguments: Any) -> int:
    """Call a C function; OSError where it fails."""
    given = [ctypes.c_long(value) if isinstance(value, int) else value for value in arguments]
    result: int = getattr(_libc, function)(*given)
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{function}: {os.strerror(number)}")
    return result


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent ends (Linux)."""
    if LINUX:
        _kernel("prctl", 1, 9, 0, 0, 0)


def adopt_orphans() -> None:
    """Make this process the parent of descendants whose own parent ended (Linux)."""
    if LINUX:
        _kernel("prctl", 36, 1, 0, 0, 0)


@functools.cache
def library() -> list[str]:
    """What a program may read: the standard library, shared libraries, time zones and the harmless devices."""
    wanted = ["/lib", "/lib64", "/usr/lib", "/usr/lib64", f"{sys.base_prefix}/lib", sysconfig.get_path("stdlib")]
    wanted += [sysconfig.get_path("platstdlib"), "/usr/share/zoneinfo", "/etc/ld.so.cache", *_DEVICES]
    found: list[str] = []
    for path in wanted:
        if Path(path).exists() and not any(path == other or path.startswith(other + "/") for other in found):
            found.append(path)
    return found


_DEVICES = ["/dev/null", "/dev/zero", "/dev/random", "/dev/urandom"]


def enter_namespaces() -> None:
    """Move into namespaces of its own, with a root that holds only `library()`; OSError where the kernel refuses.

    The caller's process stays outside and ends with the one inside; this returns inside only.
    """
    uid, gid = os.getuid(), os.getgid()
    flags = _NEWNS | _NEWUTS | _NEWIPC | _NEWPID | _NEWNET
    try:
        _kernel("unshare", flags)
    except OSError:
        _kernel("unshare", flags | _NEWUSER)
        for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
            Path("/proc/self", name).write_text(text)
    if inside := os.fork():
        os.closerange(0, 64)
        _, status = os.waitpid(inside, 0)
        os._exit(os.waitstatus_to_exitcode(status) & 127)
    die_with_parent()
    _build_root()


def _build_root() -> None:
    _kernel("mount", None, b"/", None, _REC | _PRIVATE, None)
    places, new = library(), "/proc"  # a folder that every system has, and that nobody needs from here on
    own = os.open("/proc/self/ns/pid", os.O_RDONLY)
    _kernel("mount", b"tmpfs", new.encode(), b"tmpfs", _NOSUID, b"mode=755,size=1m")
    for path in places:
        target = Path(new + path)
        target.parent.mkdir(parents=True, exist_ok=True)
        if Path(path).is_symlink():
            target.symlink_to(Path(path).readlink())
            continue
        target.mkdir() if Path(path).is_dir() else target.touch()
        _kernel("mount", path.encode(), str(target).encode(), None, _BIND | _REC, None)
    Path(new + SCRATCH).mkdir()
    os.chdir(new)
    _kernel("syscall", _PIVOT_ROOT, b".", b".")
    _kernel("umount2", b".", 2)
    os.chdir("/")
    _kernel("syscall", _MOUNT_SETATTR, -100, b"/", 0x8000, struct.pack("QQQQ", 1 | _NOSUID, 0, 0, 0), 32)
    os.dup2(own, PID_NAMESPACE)
    os.close(own)


PID_NAMESPACE = 9  # the descriptor by which a zygote comes back to its own process namespace


def fork_in_namespace() -> int:
    """Like os.fork, but the child is the first process of a namespace: when it ends, all its descendants are killed."""
    _kernel("unshare", _NEWPID)
    child = os.fork()
    if child:
        _kernel("setns", PID_NAMESPACE, _NEWPID)
    return child


def mount_scratch(owner: int, megabytes: int) -> None:
    """An empty folder in memory at SCRATCH, seen only in this mount namespace."""
    options = f"mode=700,size={megabytes}m,nr_inodes=2048,uid={owner},gid={os.getgid() if owner == os.getuid() else owner}"
    _kernel("mount", b"tmpfs", SCRATCH.encode(), b"tmpfs", _NOSUID | _NODEV | _NOEXEC, options.encode())


def unmount_scratch() -> None:
    """Take the folder at SCRATCH away; its memory is free when the last process that holds a file in it has ended."""
    _kernel("umount2", SCRATCH.encode(), 2)


def spare_user(wish: int) -> int:
    """The user id that programs get: the wished one, or nobody's, if we are root and it can read the library; else ours."""
    here = Path(sysconfig.get_path("stdlib"))
    if os.getuid() or not all(folder.stat().st_mode & 1 for folder in [here, *here.parents]):
        return os.getuid()
    for user in (wish, 65534):
        if child := os.fork():
            if os.waitpid(child, 0)[1] == 0:
                return user
        else:
            with contextlib.suppress(OSError):
                os.setresuid(user, user, user)
                os._exit(0)
            os._exit(1)
    return os.getuid()


def landlock_version() -> int:
    """The kernel's version of Landlock, 0 where it has none."""
    return max(0, _libc.syscall(ctypes.c_long(_LANDLOCK), None, ctypes.c_long(0), ctypes.c_long(1))) if LINUX else 0


def landlock_rules(scratch: str) -> int:
    """A ruleset: read `library()`, do anything ordinary in the scratch folder, nothing else. Returns its descriptor."""
    version = landlock_version()
    files = (1 << 13) - 1 | (1 << 13) * (version >= 2) | (1 << 14) * (version >= 3) | (1 << 15) * (version >= 5)
    handled = struct.pack("QQQ", files, 3 if version >= 4 else 0, 3 if version >= 6 else 0)  # TCP; signals, abstract sockets
    rules = _kernel("syscall", _LANDLOCK, handled, 8 if version < 4 else 16 if version < 6 else 24, 0)
    no_nodes = files & ~(1 | 1 << 6 | 1 << 9 | 1 << 11 | 1 << 15)  # no programs, devices, sockets
    for path, access in [*((path, 0b1101) for path in library()), (scratch, no_nodes)]:
        if path in _DEVICES:
            access = 0b110
        elif not Path(path).is_dir():
            access &= 0b101
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
        _kernel("syscall", _LANDLOCK + 1, rules, 1, struct.pack("=Qi", access, place), 0)
        os.close(place)
    return rules


def seccomp_works() -> bool:
    """Whether this is a machine whose system calls we know, with a kernel that filters them."""
    if not LINUX or _ARCH is None:
        return False
    with contextlib.suppress(OSError):
        _kernel("prctl", 21, 0, 0, 0, 0)
        return True
    return False


def filter_calls() -> None:
    """Refuse what no exercise needs: processes, sockets, signals to others, other processes' memory, owners and modes.

    Threads are allowed. Sockets already connected (`socketpair`) are allowed: an event loop of asyncio needs one.
    """
    refuse, allow = _step(0x06, errno.EPERM | 0x50000), _step(0x06, 0x7FFF0000)

    def only_if(number: int, test: int, value: int) -> bytes:
        return _step(0x15, number, 0, 4) + _step(0x20, 16) + _step(test, value, 1, 0) + refuse + allow

    steps = _step(0x20, 4) + _step(0x15, _ARCH or 0, 1, 0) + refuse + _step(0x20, 0)
    if platform.machine() == "x86_64":
        steps += _step(0x35, 0x40000000, 0, 1) + refuse  # the same calls under other numbers
    for number in (f"{_COMMON} {_REFUSED[platform.machine()]}").split()[1::2]:
        steps += _step(0x15, int(number), 0, 1) + refuse
    steps += _step(0x15, _CLONE3, 0, 1) + _step(0x06, errno.ENOSYS | 0x50000)
    steps += only_if(_CLONE, 0x45, 0x10000)  # a thread, not a process
    steps += only_if(_KILL, 0x15, os.getpid()) + only_if(_TGKILL, 0x15, os.getpid()) + only_if(_PRLIMIT, 0x15, 0)
    steps += allow
    code = ctypes.create_string_buffer(steps)
    filter_ = struct.pack("HxxxxxxQ", len(steps) // 8, ctypes.addressof(code))
    _kernel("prctl", 22, 2, filter_, 0, 0)


def _step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("HBBI", code, if_true, if_false, value)


def limit(wanted: dict[str, int]) -> None:
    """Set resource limits by their name (`AS`, `CPU`, ...), as far as the system knows them."""
    for name, value in wanted.items():
        kind = getattr(resource, f"RLIMIT_{name}", None)
        if kind is not None:
            hard = resource.getrlimit(kind)[1]
            upper = value + (name == "CPU")  # a second between the signal that can be caught and the one that cannot
            with contextlib.suppress(OSError, ValueError):
                resource.setrlimit(
                    kind, (value, upper) if hard == resource.RLIM_INFINITY else (min(value, hard), min(upper, hard))
                )


def drop_privileges(user: int) -> None:
    """Become that user, without capabilities, without a way to gain any, and with memory that nobody may look into."""
    if os.getuid() != user:
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
    if LINUX:
        _kernel("capset", struct.pack("II", 0x20080522, 0), bytes(24))
        _kernel("prctl", 38, 1, 0, 0, 0)
        _kernel("prctl", 4, 0, 0, 0, 0)


def enforce(rules: int) -> None:
    """Put this process under a Landlock ruleset, for good."""
    _kernel("syscall", _LANDLOCK + 2, rules, 0)
