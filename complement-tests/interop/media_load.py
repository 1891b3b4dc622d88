"""Twenty uploads of 100 MB at once: how much memory the server takes, and how long another user's messages wait.

Prints the figures of docs/performance.md; fails above 200 MB of resident memory."""

import asyncio
import os
import statistics
import tempfile
import time
from pathlib import Path

import aiohttp

from conversation import User
from homeservers import CertificateAuthority, Nudge

UPLOADS = 20
SIZE = 100 * 1000 * 1000
RESIDENT_MAX_MB = 200
PIECE = 256 * 1024


def resident_mb(server: Nudge) -> float:
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) / 1000


async def body(seed: int):
    """Every file another one, at no cost for who makes it."""
    piece = os.urandom(PIECE)
    yield seed.to_bytes(8, "big")
    left = SIZE - 8
    while left:
        yield piece[:left] if left < PIECE else piece
        left -= min(left, PIECE)


async def sends(user: User, room: str, until: asyncio.Event | None, count: int) -> list[float]:
    took = []
    while (until is None and len(took) < count) or (until is not None and not until.is_set()):
        started = time.monotonic()
        await user.say(room, "hello")
        took.append((time.monotonic() - started) * 1000)
        await asyncio.sleep(0.05)
    return took


def shown(took: list[float]) -> str:
    ordered = sorted(took)
    return f"median {statistics.median(ordered):.1f} ms, 95 % {ordered[int(len(ordered) * 0.95)]:.1f} ms"


async def measure(server: Nudge) -> None:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=600)) as session:
        user = await User(server, "nora", session).register()
        room = await user.create_room()
        idle = await sends(user, room, None, 100)
        at_rest, most = resident_mb(server), 0.0
        headers = {"Authorization": f"Bearer {user.token}", "Content-Type": "application/octet-stream"}

        async def upload(seed: int) -> None:
            url = f"{server.base_url}/_matrix/media/v3/upload"
            async with session.post(url, data=body(seed), headers=headers) as answer:
                assert answer.status == 200, await answer.text()

        done = asyncio.Event()
        talking = asyncio.create_task(sends(user, room, done, 0))
        started = time.monotonic()
        uploads = [asyncio.create_task(upload(seed)) for seed in range(UPLOADS)]
        while not all(upload.done() for upload in uploads):
            most = max(most, resident_mb(server))
            await asyncio.sleep(0.1)
        took = time.monotonic() - started
        done.set()
        busy = await talking
        await asyncio.gather(*uploads)
        print(f"  {UPLOADS} x {SIZE // 1_000_000} MB in {took:.0f} s, {UPLOADS * SIZE / took / 1e6:.0f} MB/s")
        print(f"  resident: {at_rest:.0f} MB before, {most:.0f} MB at most")
        print(f"  sends: idle {shown(idle)}; meanwhile {shown(busy)} ({len(busy)} messages)")
        assert most < RESIDENT_MAX_MB, f"{most} MB"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        server = Nudge(Path(folder) / "nudge", CertificateAuthority(Path(folder)))
        try:
            server.start()
            asyncio.run(measure(server))
        finally:
            server.stop()
    print("uploads at once: passed")


if __name__ == "__main__":
    main()
