"""Synapse and our binary in one federation on loopback, with real TLS: each joins a room of the other, both talk,
leave, ban and rejoin, knock, come in through a space, move to a new room, shut each other out, and what is said while
one of them is away, or the network between them, arrives when it is back."""

import asyncio
import tempfile
from pathlib import Path

import aiohttp

import federation_scenes as scenes
from conversation import User, eventually, is_member, reads
from homeservers import CertificateAuthority, Nudge, Synapse

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


async def one_is_away(stays: User, away: User, events: int) -> None:
    """What is said while a server is stopped arrives in order when it is back."""
    room = await stays.create_room()
    await away.join(room, stays.server.name)
    await stays.say(room, "first")
    await eventually("the first", lambda: reads(away, room, ["first"]))
    away.server.stop()
    said = ["first"]
    for number in range(events):
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
        for name, scene in scenes.ALL:
            await scene(ours, theirs)
            await scene(theirs, ours)
            print(f"  {name}: passed", flush=True)
        await one_is_away(ours, theirs, 500)
        print("  Synapse away and back: passed", flush=True)
        await one_is_away(theirs, ours, 60)
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
