"""Mining threads find nonces that meet their targets, for the search that counts, and end."""

import asyncio
import threading
import time

from quorate.consensus.pow_difficulty import compute_target
from quorate.crypto.hashes import compute_seal
from quorate.runtime.sealing import Sealer

HEADER = b"header".ljust(180, b".")
NEVER = 0
EASY = compute_target(5000)


def make(threads: int = 2, hashes_per_second: int = 0) -> tuple[Sealer, list[str]]:
    errors: list[str] = []
    sealer = Sealer(
        asyncio.get_running_loop(),
        lambda where, error: errors.append(f"{where}: {error!r}"),
        threads=threads,
        hashes_per_second=hashes_per_second,
    )
    return sealer, errors


async def search(sealer: Sealer, header: bytes, target: int) -> int:
    found: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    sealer.seal(header, target, found.set_result)
    return await asyncio.wait_for(found, 60)


def test_a_nonce_is_found_and_meets_the_target() -> None:
    async def run() -> None:
        sealer, errors = make()
        for number in range(5):
            header = HEADER + bytes([number])
            nonce = await search(sealer, header, EASY)
            assert compute_seal(header, nonce) <= EASY
        assert sealer.get_tried() > 0
        sealer.close()
        assert errors == []

    asyncio.run(run())


def test_a_search_that_was_replaced_is_never_answered() -> None:
    async def run() -> None:
        sealer, errors = make()
        answered: list[int] = []
        sealer.seal(HEADER, NEVER, answered.append)
        nonce = await search(sealer, HEADER + b"2", EASY)
        assert compute_seal(HEADER + b"2", nonce) <= EASY
        sealer.seal(HEADER, compute_target(1 << 14), answered.append)
        sealer.stop()
        await search(sealer, HEADER + b"3", EASY)
        assert answered == []
        sealer.close()
        assert errors == []

    asyncio.run(run())


def test_a_bounded_rate_is_kept_and_threads_end() -> None:
    async def run() -> None:
        sealer, errors = make(hashes_per_second=2000)
        began = time.monotonic()
        sealer.seal(HEADER, NEVER, lambda nonce: None)
        while sealer.get_tried() < 1000:
            await asyncio.sleep(0.01)
        # Two threads try 50 nonces each before their first rest, and then 20 times a second.
        assert time.monotonic() - began > 0.3
        sealer.close()
        for thread in threading.enumerate():
            if thread.name.startswith("quorate-seal"):
                await asyncio.to_thread(thread.join, 30)
                assert not thread.is_alive()
        assert errors == []

    asyncio.run(run())
