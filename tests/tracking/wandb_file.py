"""Reads a .wandb file: W&B's own records (its protobuf messages) out of LevelDB log framing.

wandb 0.31 has its file reader in Go only; what the file holds is read here with wandb's message classes.
"""

import struct
import time

from wandb.proto.wandb_internal_pb2 import Record

BLOCK, HEADER = 32768, 7
FULL, LAST = 1, 4


def read_whole(path):
    """Every record of a run that has ended; W&B's service may still be writing the last ones."""
    for _ in range(1200):
        records = read(path)
        if any(record.WhichOneof("record_type") == "exit" for record in records):
            return records
        time.sleep(0.05)
    raise AssertionError(f"{path} has no end")


def read(path):
    """Every record in the file, in its order."""
    content, place, parts, found = path.read_bytes(), HEADER, b"", []
    assert content[:4] in (b":W&B", b"")
    while place + HEADER <= len(content):
        if BLOCK - place % BLOCK < HEADER:  # too short for a header: padding
            place += BLOCK - place % BLOCK
            continue
        _, length, kind = struct.unpack_from("<IHB", content, place)
        if not kind:
            break
        parts += content[place + HEADER : place + HEADER + length]
        place += HEADER + length
        if kind in (FULL, LAST):
            record = Record()
            record.ParseFromString(parts)
            found.append(record)
            parts = b""
    return found
