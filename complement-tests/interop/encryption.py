"""Sessions of matrix-js-sdk, matrix-sdk and matrix-nio with encryption, in every pairing, on our binary, and, with
`--federated`, with one of the two people on Synapse; and sessions of our own machine with each of them.

Each session is a process that does what it is told by lines of JSON: see agent_nio.py, js-sdk/agent.mjs,
rust-sdk/src/bin/agent.rs and ../machine-client. INTEROP_AGENT_JS, INTEROP_AGENT_RUST and INTEROP_AGENT_MACHINE have the
commands of the latter three.

    encryption.py [--federated] [js|rust|nio|js-rust|...]...
"""

import asyncio
import itertools
import json
import os
import shlex
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from homeservers import CertificateAuthority, Homeserver, Nudge, Synapse

HERE = Path(__file__).parent
DEADLINE_S = 200
LINE_BYTES_MAX = 1 << 20
COMMANDS = {
    "js": lambda: shlex.split(os.environ["INTEROP_AGENT_JS"]),
    "rust": lambda: shlex.split(os.environ["INTEROP_AGENT_RUST"]),
    "nio": lambda: [sys.executable, str(HERE / "agent_nio.py")],
    "machine": lambda: shlex.split(os.environ["INTEROP_AGENT_MACHINE"]),
}
# matrix-nio has neither cross-signing nor backups. It verifies devices one by one, and only those of its own kind: 0.26
# begins without `m.key.verification.request`, writes its commitment in hexadecimal where the specification wants base64,
# and under the name `hkdf-hmac-sha256` sends the codes of `hkdf-hmac-sha256.v2`. The others refuse each of the latter two.
WITH_IDENTITY = {"js", "rust", "machine"}
# Those that hand the keys of what was said on to who is invited.
WITH_HISTORY = ("rust", "machine")
NUMBERS = itertools.count()


@dataclass
class Session:
    """A logged-in client in a process of its own."""

    kind: str
    server: Homeserver
    process: asyncio.subprocess.Process
    user_id: str = ""
    device_id: str = ""
    access_token: str = ""

    @classmethod
    async def begin(cls, kind: str, server: Homeserver, act: str, **more) -> "Session":
        process = await asyncio.create_subprocess_exec(
            *COMMANDS[kind](), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL, limit=LINE_BYTES_MAX,
        )
        session = cls(kind, server, process)
        SESSIONS.append(session)
        place = {"baseUrl": server.base_url, "name": server.name}
        for field, value in (await session.do(act, server=place, **more)).items():
            setattr(session, field, value)
        return session

    @classmethod
    async def register(cls, kind: str, server: Homeserver, name: str) -> "Session":
        return await cls.begin(kind, server, "register", name=f"{name}{next(NUMBERS)}")

    async def another(self, kind: str) -> "Session":
        """Another session of the same user."""
        return await self.begin(kind, self.server, "log_in", user=self.user_id)

    async def do(self, act: str, **more):
        self.process.stdin.write(json.dumps({"act": act, **more}).encode() + b"\n")
        await self.process.stdin.drain()
        line = await asyncio.wait_for(self.process.stdout.readline(), DEADLINE_S)
        assert line, f"{self}: ended in the midst of {act}"
        answer = json.loads(line)
        assert "error" not in answer, f"{self}: {act} {more}: {answer['error']}"
        return answer["value"]

    async def end(self) -> None:
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()

    async def ask(self, path: str) -> dict:
        """What the server says to a GET as this session."""
        headers = {"Authorization": f"Bearer {self.access_token}"}
        async with aiohttp.ClientSession() as http:
            async with http.get(f"{self.server.base_url}/_matrix/client/v3{path}", headers=headers) as answer:
                return await answer.json()

    async def megolm_session(self, room: str, event: str) -> str:
        content = (await self.ask(f"/rooms/{room}/event/{event}"))["content"]
        assert "ciphertext" in content and "body" not in content, content
        return content["session_id"]

    def __str__(self) -> str:
        return f"{self.user_id or '?'} {self.device_id} ({self.kind})"


SESSIONS: list[Session] = []


async def tell(writer: Session, readers: list[Session], room: str, body: str) -> str:
    """Writes, and waits until all others have read."""
    event = await writer.do("say", room=room, body=body)
    await asyncio.gather(*(reader.do("reads", room=room, event=event, body=body) for reader in readers))
    return event


async def bring(owner: Session, guest: Session, room: str, watchers: list[Session]) -> None:
    await owner.do("invite", room=room, user=guest.user_id)
    await guest.do("join", room=room)
    await everybody_sees([owner, *watchers], room, guest, "join")


async def everybody_sees(watchers: list[Session], room: str, user: Session, membership: str) -> None:
    seen = (watcher.do("sees_member", room=room, user=user.user_id, membership=membership) for watcher in watchers)
    await asyncio.gather(*seen)


async def verify(asks: Session, answers: Session) -> None:
    """By emoji: both see the same, and say so."""
    # A request of a device that is not known yet is dropped.
    await asyncio.gather(asks.do("sees_device", user=answers.user_id, device=answers.device_id, present=True),
                         answers.do("sees_device", user=asks.user_id, device=asks.device_id, present=True))
    to = {"user": answers.user_id, "device": answers.device_id} if asks.kind in ("nio", "machine") else {}
    seen = await asyncio.gather(asks.do("request_verification", **to), answers.do("accept_verification"))
    assert seen[0] == seen[1] and len(seen[0]) == 7, seen
    await asyncio.gather(asks.do("confirm"), answers.do("confirm"))


async def backed_up(alice: Session, least: int) -> None:
    end = time.monotonic() + DEADLINE_S
    while (await alice.ask("/room_keys/version")).get("count", 0) < least:
        assert time.monotonic() < end, "the keys never came into the backup"
        await asyncio.sleep(0.5)


async def identity(alice: Session, kind: str, room: str, before: str) -> Session:
    """Cross-signing, a backup, a device that is verified by emoji, and one that restores the backup."""
    key = await alice.do("back_up")
    await backed_up(alice, 1)
    second = await alice.another(kind)
    await verify(second, alice)
    for session in (alice, second):
        await session.do("sees_verified", user=alice.user_id, device=second.device_id)
    print("    verified by emoji", flush=True)
    third = await alice.another(kind)
    await third.do("restore", key=key)
    await third.do("reads", room=room, event=before, body="hello")
    await third.do("sees_verified", user=alice.user_id, device=third.device_id)
    print("    backup restored", flush=True)
    await third.end()
    return second


async def pair(one: str, other: str, home: Homeserver, away: Homeserver) -> None:
    """Alice with one client on one server, Bob with another on the other, and Carol who leaves."""
    alice, bob, carol = await asyncio.gather(
        Session.register(one, home, "alice"), Session.register(other, away, "bob"),
        Session.register(one, home, "carol"),
    )
    for session in (alice, bob):
        if session.kind != "nio":
            await session.do("cross_sign")
    room = await alice.do("create_room")
    await bring(alice, bob, room, [])
    await bring(alice, carol, room, [bob])
    before = await tell(alice, [bob, carol], room, "hello")
    await tell(bob, [alice, carol], room, "hello yourself")
    print("    messages both ways", flush=True)

    if one in WITH_IDENTITY:
        second = await identity(alice, other if other in WITH_IDENTITY else one, room, before)
    else:
        second = await alice.another(one)
        await verify(second, alice)
    await bob.do("sees_device", user=alice.user_id, device=second.device_id, present=True)
    first = await tell(bob, [alice, second, carol], room, "to your new device")
    await tell(second, [alice, bob, carol], room, "from my new device")
    print("    a device that was added later", flush=True)

    await carol.do("leave", room=room)
    await everybody_sees([alice, bob], room, carol, "leave")
    last = await tell(bob, [alice, second], room, "now that she has left")
    assert await bob.megolm_session(room, first) != await bob.megolm_session(room, last), "no new session after a leave"
    print("    rotation after a leave", flush=True)

    await second.do("log_out")
    await bob.do("sees_device", user=alice.user_id, device=second.device_id, present=False)
    after = await tell(bob, [alice], room, "not for the one that is gone")
    assert await bob.megolm_session(room, last) != await bob.megolm_session(room, after), "no new session after a log-out"
    again = await alice.another(one)
    await again.do("sees_member", room=room, user=bob.user_id, membership="join")
    await again.do("cannot_read", room=room, event=after)
    print("    a device that was logged out", flush=True)
    if home is not away:
        await absence(alice, bob, room, home, away)


async def absence(alice: Session, bob: Session, room: str, home: Homeserver, away: Homeserver) -> None:
    """While a server is away, somebody on the other one gets a new device; what is said on return reaches it."""
    for stays, leaves in ((alice, bob), (bob, alice)):
        leaves.server.stop()
        new = await stays.another(stays.kind)
        leaves.server.start()
        await leaves.do("sees_device", user=stays.user_id, device=new.device_id, present=True)
        await tell(leaves, [stays, new], room, f"welcome to {new.device_id}")
        await new.end()
        print(f"    a new device while the server of {leaves} was away", flush=True)


async def dehydration(server: Homeserver) -> None:
    """Nobody of Alice's is logged in when a message comes, and yet she reads it later."""
    alice, bob = await asyncio.gather(Session.register("js", server, "alice"), Session.register("js", server, "bob"))
    await alice.do("cross_sign")
    key = await alice.do("back_up")
    room = await alice.do("create_room")
    await bring(alice, bob, room, [])
    await tell(alice, [bob], room, "I shall be away")
    await alice.do("dehydrate")
    await alice.do("log_out")
    await bob.do("sees_device", user=alice.user_id, device=alice.device_id, present=False)
    event = await bob.do("say", room=room, body="while you were away")
    back = await alice.another("js")
    await back.do("rehydrate", key=key)
    await back.do("reads", room=room, event=event, body="while you were away")


async def history(one: str, other: str, server: Homeserver) -> None:
    """Bob reads what Alice has said before she invited him."""
    alice, bob = await asyncio.gather(Session.register(one, server, "alice"), Session.register(other, server, "bob"))
    await alice.do("cross_sign")
    await bob.do("cross_sign")
    room = await alice.do("create_room")
    event = await alice.do("say", room=room, body="before you came")
    await bring(alice, bob, room, [])
    await bob.do("reads", room=room, event=event, body="before you came")


def wanted(names: list[str], federated: bool) -> list[tuple[str, str]]:
    every = list(itertools.product(COMMANDS, repeat=2))
    if not names:
        # Over federation each client meets the other side once; the pairings are the same as at home.
        return [(kind, kind) for kind in COMMANDS] if federated else every
    chosen = [tuple(name.split("-")) if "-" in name else (name, name) for name in names]
    assert all(one in every for one in chosen), f"unknown: {names}"
    return chosen


async def run(servers: list[Homeserver], pairs: list[tuple[str, str]]) -> None:
    home, away = servers[0], servers[-1]
    try:
        for one, other in pairs:
            for first, second in [(home, away)] if home is away else [(home, away), (away, home)]:
                start = time.monotonic()
                print(f"  {one} and {other}{'' if home is away else f', {one} on {type(first).__name__}'}", flush=True)
                await pair(one, other, first, second)
                print(f"  passed ({time.monotonic() - start:.1f} s)", flush=True)
                while SESSIONS:
                    await SESSIONS.pop().end()
        for one, other in itertools.product(WITH_HISTORY, repeat=2):
            if home is away and (one, other) in pairs:
                await history(one, other, home)
                print(f"  what was said before, from {one} to {other}: passed", flush=True)
        if home is away and ("js", "js") in pairs:
            await dehydration(home)
            print("  a dehydrated device: passed", flush=True)
    finally:
        for session in SESSIONS:
            await session.end()


def main() -> None:
    names = sys.argv[1:]
    federated = "--federated" in names
    pairs = wanted([name for name in names if name != "--federated"], federated)
    with tempfile.TemporaryDirectory() as folder:
        authority = CertificateAuthority(Path(folder))
        servers: list[Homeserver] = [Nudge(Path(folder) / "nudge", authority)]
        if federated:
            servers.append(Synapse(Path(folder) / "synapse", authority))
        try:
            for server in servers:
                server.start()
            asyncio.run(run(servers, pairs))
        except BaseException:
            for server in servers:
                print(f"--- {server.name}\n{server.log_tail()}")
            raise
        finally:
            for server in servers:
                server.stop()
    print(f"encryption{' with Synapse' if federated else ''}: passed")


if __name__ == "__main__":
    main()
