"""Synapse and our binary in one federation on loopback: files and their thumbnails go both ways, and come whole."""

import asyncio
import struct
import tempfile
import zlib
from pathlib import Path

import aiohttp

from conversation import DEADLINE_S, User
from homeservers import CertificateAuthority, Nudge, Synapse


def picture(width: int, height: int) -> bytes:
    """A PNG without the help of a library."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    def row(y: int) -> bytes:
        return b"\0" + bytes((x * 7 + y * 3 + color) % 256 for x in range(width) for color in range(3))

    rows = b"".join(row(y) for y in range(height))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


class Files:
    """What a client does with files."""

    def __init__(self, user: User) -> None:
        self.user = user
        self.headers = {"Authorization": f"Bearer {user.token}"}

    async def upload(self, name: str, kind: str, content: bytes) -> str:
        url = f"{self.user.server.base_url}/_matrix/media/v3/upload"
        headers = {**self.headers, "Content-Type": kind}
        async with self.user.session.post(url, params={"filename": name}, data=content, headers=headers) as answer:
            assert answer.status == 200, await answer.text()
            return (await answer.json())["content_uri"].removeprefix("mxc://")

    async def get(self, kind: str, place: str, **query) -> tuple[int, dict, bytes]:
        url = f"{self.user.server.base_url}/_matrix/client/v1/media/{kind}/{place}"
        async with self.user.session.get(url, params=query, headers=self.headers) as answer:
            return answer.status, dict(answer.headers), await answer.read()


async def goes_over(sender: User, receiver: User) -> None:
    """What one uploads the other downloads, whole and small."""
    here, there = Files(sender), Files(receiver)
    image = picture(400, 300)
    files = [("picture.png", "image/png", image), ("\u2615.txt", "text/plain", b"coffee"),
             ("large.bin", "application/octet-stream", bytes(range(256)) * 40_000)]
    if isinstance(sender.server, Nudge):
        # Synapse leaves both parts of its answer out when there is nothing in a file.
        files.append(("empty", "a/b", b""))
    for name, kind, content in files:
        place = await here.upload(name, kind, content)
        status, headers, received = await there.get("download", place)
        assert (status, received == content) == (200, True), (name, status, len(received), received[:200])
        assert headers["Content-Type"].split(";")[0] == kind, headers
        asked_again = await there.get("download", place)
        assert asked_again[2] == content
    place = await here.upload("picture.png", "image/png", image)
    for query in ({"width": 96, "height": 96, "method": "crop"}, {"width": 320, "height": 240, "method": "scale"}):
        status, headers, small = await there.get("thumbnail", place, **query)
        assert status == 200 and headers["Content-Type"] == "image/png", (status, headers, small[:200])
        assert struct.unpack(">II", small[16:24]) == (query["width"], query["height"]), small[:30]
    status, _, answer = await there.get("download", f"{sender.server.name}/nothing")
    assert status == 404, answer


async def exchange(nudge: Nudge, synapse: Synapse) -> None:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=DEADLINE_S)) as session:
        ours = await User(nudge, "nora", session).register()
        theirs = await User(synapse, "sam", session).register()
        await goes_over(ours, theirs)
        print("  our files and thumbnails at Synapse: passed", flush=True)
        await goes_over(theirs, ours)
        print("  Synapse's files and thumbnails at ours: passed", flush=True)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        authority = CertificateAuthority(Path(folder))
        servers = [Nudge(Path(folder) / "nudge", authority), Synapse(Path(folder) / "synapse", authority)]
        try:
            for server in servers:
                server.start()
            asyncio.run(exchange(*servers))
        except BaseException:
            for server in servers:
                print(f"--- {server.name}\n{server.log_tail()}")
            raise
        finally:
            for server in servers:
                server.stop()
    print("files with Synapse: passed")


if __name__ == "__main__":
    main()
