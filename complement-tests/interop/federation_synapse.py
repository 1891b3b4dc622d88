"""Synapse and our binary in one federation on loopback, with real TLS: each joins a room of the other, both talk,
leave, ban and rejoin, and what is said while one of them is away arrives when it is back, in order."""

import asyncio
import itertools
import tempfile
from pathlib import Path

import aiohttp

from homeservers import CertificateAuthority, Homeserver, Nudge, Synapse

DEADLINE_S = 60


class User:
    """A client with as much of the client-server API as the conversation takes."""

    def __init__(self, server: Homeserver, name: str, session: aiohttp.ClientSession) -> None:
        self.server, self.name, self.session = server, name, session
        self.user_id, self.token = f"@{name}:{server.name}", None
        self.transactions = itertools.count()

    async def call(self, method: str, path: str, body: dict | None = None, expect: int = 200) -> dict:
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        url = f"{self.server.base_url}/_matrix/client/v3{path}"
        async with self.session.request(method, url, json=body, headers=headers) as response:
            answer = await response.json()
            assert response.status == expect, f"{self.user_id}: {method} {path}: {response.status} {answer}"
            return answer

    async def register(self) -> "User":
        body = {"username": self.name, "password": "correct horse", "auth": {"type": "m.login.dummy"}}
        self.token = (await self.call("POST", "/register", body))["access_token"]
        return self

    async def create_room(self, **options) -> str:
        return (await self.call("POST", "/createRoom", {"preset": "public_chat", **options}))["room_id"]

    async def invite(self, room: str, user: "User") -> None:
        await self.call("POST", f"/rooms/{room}/invite", {"user_id": user.user_id})

    async def join(self, room: str, via: str, expect: int = 200) -> None:
        room = room.replace("#", "%23")
        await self.call("POST", f"/join/{room}?server_name={via}&via={via}", {}, expect)

    async def leave(self, room: str) -> None:
        await self.call("POST", f"/rooms/{room}/leave", {})

    async def ban(self, room: str, user: "User") -> None:
        await self.call("POST", f"/rooms/{room}/ban", {"user_id": user.user_id})

    async def unban(self, room: str, user: "User") -> None:
        await self.call("POST", f"/rooms/{room}/unban", {"user_id": user.user_id})

    async def say(self, room: str, text: str) -> str:
        path = f"/rooms/{room}/send/m.room.message/{self.name}{next(self.transactions)}"
        return (await self.call("PUT", path, {"msgtype": "m.text", "body": text}))["event_id"]

    async def history(self, room: str) -> list[str]:
        """The bodies of all messages of a room that this user may read, oldest first."""
        bodies, start = [], ""
        while True:
            page = await self.call("GET", f"/rooms/{room}/messages?dir=b&limit=100{start}")
            bodies += [event["content"].get("body") for event in page["chunk"] if event["type"] == "m.room.message"]
            if "end" not in page:
                return bodies[::-1]
            start = f"&from={page['end']}"

    async def members(self, room: str) -> dict[str, str]:
        answer = await self.call("GET", f"/rooms/{room}/members")
        return {event["state_key"]: event["content"]["membership"] for event in answer["chunk"]}

    async def is_out_of(self, room: str) -> bool:
        return room not in (await self.call("GET", "/joined_rooms"))["joined_rooms"]

    async def invited(self) -> set[str]:
        return set((await self.call("GET", "/sync?timeout=0"))["rooms"].get("invite", {}))


async def eventually(what: str, check) -> None:
    """Waits until an asynchronous check holds."""
    last = None
    for _ in range(DEADLINE_S * 5):
        try:
            last = await check()
            if last is True:
                return
        except AssertionError as error:
            last = error
        await asyncio.sleep(0.2)
    raise AssertionError(f"never came true: {what}; last: {last}")


async def reads(user: User, room: str, expected: list[str]):
    bodies = await user.history(room)
    return True if bodies == expected else bodies


async def is_member(user: User, room: str, other: User, membership: str):
    members = await user.members(room)
    return True if members.get(other.user_id) == membership else members


async def room_of_one_server(owner: User, guest: User, version: str | None) -> None:
    """A room on the owner's server; the guest joins from the other."""
    options = {"room_version": version} if version else {}
    room = await owner.create_room(**options)
    said = ["before you came"]
    await owner.say(room, said[0])
    await guest.join(room, owner.server.name)
    await eventually("the owner sees the guest", lambda: is_member(owner, room, guest, "join"))
    for turn in range(3):
        for user in (owner, guest):
            said.append(f"{user.name} {turn}")
            await user.say(room, said[-1])
            other = guest if user is owner else owner
            await eventually("the other reads it", lambda: reads(other, room, said))

    await guest.leave(room)
    await eventually("the owner sees them leave", lambda: is_member(owner, room, guest, "leave"))
    await guest.join(room, owner.server.name)
    await eventually("the owner sees them return", lambda: is_member(owner, room, guest, "join"))
    await owner.ban(room, guest)
    await eventually("the ban", lambda: guest.is_out_of(room))
    await guest.join(room, owner.server.name, expect=403)
    await owner.unban(room, guest)
    await guest.join(room, owner.server.name)
    await eventually("they are back after the ban", lambda: is_member(owner, room, guest, "join"))
    said.append("welcome back")
    await owner.say(room, said[-1])
    await eventually("the guest reads on", lambda: reads(guest, room, said))


async def invitation(inviter: User, invited: User) -> None:
    """A private room: invite, turn down, invite again, join."""
    room = await inviter.create_room(preset="private_chat")

    async def has_invite():
        return room in await invited.invited()

    await inviter.invite(room, invited)
    await eventually("the invitation", has_invite)
    await invited.leave(room)
    await eventually("the refusal", lambda: is_member(inviter, room, invited, "leave"))
    await inviter.invite(room, invited)
    await eventually("the second invitation", has_invite)
    await invited.join(room, inviter.server.name)
    await invited.say(room, "thank you")
    await eventually("the thanks", lambda: reads(inviter, room, ["thank you"]))


async def alias(owner: User, guest: User) -> None:
    room = await owner.create_room(room_alias_name=f"meet-{owner.name}")
    await guest.join(f"#meet-{owner.name}:{owner.server.name}", owner.server.name)
    await eventually("the guest came by the alias", lambda: is_member(owner, room, guest, "join"))


async def one_is_away(stays: User, away: User) -> None:
    """What is said while a server is stopped arrives in order when it is back."""
    room = await stays.create_room()
    await away.join(room, stays.server.name)
    await stays.say(room, "first")
    await eventually("the first", lambda: reads(away, room, ["first"]))
    away.server.stop()
    said = ["first"]
    for number in range(60):
        said.append(f"while away {number}")
        await stays.say(room, said[-1])
    away.server.start()
    await eventually("everything arrives, in order", lambda: reads(away, room, said))
    await away.say(room, "I am back")
    await eventually("and it answers", lambda: reads(stays, room, [*said, "I am back"]))


async def converse(nudge: Nudge, synapse: Synapse) -> None:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as session:
        ours = await User(nudge, "nora", session).register()
        theirs = await User(synapse, "sam", session).register()
        for version in (None, "12", "11", "10", "6"):
            await room_of_one_server(ours, theirs, version)
            await room_of_one_server(theirs, ours, version)
            print(f"  rooms of both servers, version {version or 'default'}: passed", flush=True)
        await invitation(ours, theirs)
        await invitation(theirs, ours)
        await alias(ours, theirs)
        await alias(theirs, ours)
        print("  invitations and aliases: passed", flush=True)
        await one_is_away(ours, theirs)
        print("  Synapse away and back: passed", flush=True)
        await one_is_away(theirs, ours)
        print("  we away and back: passed", flush=True)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        authority = CertificateAuthority(Path(folder))
        servers = [Nudge(Path(folder) / "nudge", authority), Synapse(Path(folder) / "synapse", authority)]
        try:
            for server in servers:
                server.start()
            asyncio.run(converse(*servers))
        except BaseException:
            for server in servers:
                print(f"--- {server.name}\n{server.log_tail()}")
            raise
        finally:
            for server in servers:
                server.stop()
    print("federation with Synapse: passed")


if __name__ == "__main__":
    main()
