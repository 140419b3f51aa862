"""Ports for tests that start servers: free now, and not taken by anybody else before their use."""

import os
import secrets
import socket

LOWEST, HIGHEST = 12_000, 21_000
"""Below the range from which systems choose the near ends of connections, and below what `quorate
compare --real` chooses by itself.
"""
_next: int | None = None


def free_port() -> int:
    return free_port_block(1)


def free_port_block(count: int) -> int:
    """Return the first of `count` neighbouring ports that are free now."""
    return free_port_blocks(count, 1)[0]


def free_port_blocks(count: int, blocks: int) -> list[int]:
    """Return the first ports of blocks of `count` that are free now and do not overlap.

    What was returned before is not returned again until all others have been: it may be free now
    only because its server has not begun yet.
    """
    global _next
    lowest, ports = get_own_ports()
    if _next is None:
        _next = secrets.randbelow(ports)
    for _ in range(ports):
        if _next + count * blocks > ports:
            _next = 0
        first = lowest + _next
        if are_free(first, count * blocks):
            _next += count * blocks
            return [first + count * block for block in range(blocks)]
        _next += 1
    raise RuntimeError(f"no {count * blocks} free ports between {lowest} and {lowest + ports}")


def are_free(first: int, count: int) -> bool:
    held: list[socket.socket] = []
    try:
        for port in range(first, first + count):
            held.append(socket.socket())
            held[-1].bind(("127.0.0.1", port))
    except OSError:
        return False
    finally:
        for opened in held:
            opened.close()
    return True


def get_own_ports() -> tuple[int, int]:
    """Return the first port that this process may choose, and how many there are from it on.

    Workers of pytest-xdist have a part each, so that none takes what another has just found free.
    """
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    ports = (HIGHEST - LOWEST) // workers
    return LOWEST + worker * ports, ports
