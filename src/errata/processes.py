"""Which processes of this machine still run: an id alone does not say, for ids are used again."""

import socket
from pathlib import Path


def alive(host: str, pid: int, started: float) -> bool:
    """Whether a process of this machine still runs."""
    return host == socket.gethostname() and started_at(pid) == started


def started_at(pid: int) -> float:
    """When a process of this machine was started, or 0 where there is none."""
    import psutil

    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return 0.0
        stat = Path(f"/proc/{pid}/stat")
        if stat.is_file():  # ticks since the machine was started, which no change of its clock moves
            return float(stat.read_text().rpartition(")")[2].split()[19])
        return float(process.create_time())
    except (psutil.Error, OSError):
        return 0.0
