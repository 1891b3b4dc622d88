"""What two servers do with each other beyond talking. Each scene is played twice: once with each as the host."""

from conversation import User, eventually, is_member, reads
from homeservers import Synapse


async def shared_room(owner: User, guest: User, **options) -> str:
    room = await owner.create_room(**options)
    await guest.join(room, owner.server.name)
    await eventually("the owner sees the guest", lambda: is_member(owner, room, guest, "join"))
    return room


def join_rules(rule: str, **more) -> dict:
    return {"type": "m.room.join_rules", "state_key": "", "content": {"join_rule": rule, **more}}


async def knocking(owner: User, guest: User) -> None:
    room = await owner.create_room(preset="private_chat", room_version="11", initial_state=[join_rules("knock")])
    await guest.join(room, owner.server.name, expect=403)
    await guest.knock(room, owner.server.name)
    await eventually("the knock", lambda: is_member(owner, room, guest, "knock"))
    # Synapse forgets a knock that is taken back, and tells nobody.
    if not isinstance(guest.server, Synapse):
        await guest.leave(room)
        await eventually("the knock is taken back", lambda: is_member(owner, room, guest, "leave"))
        await guest.knock(room, owner.server.name)
        await eventually("the second knock", lambda: is_member(owner, room, guest, "knock"))
    await owner.invite(room, guest)

    async def is_invited():
        return room in await guest.invited()

    await eventually("the door opens", is_invited)
    await guest.join(room, owner.server.name)
    await guest.say(room, "thanks")
    await eventually("they are in", lambda: reads(owner, room, ["thanks"]))


async def through_a_space(owner: User, guest: User) -> None:
    space = await owner.create_room(creation_content={"type": "m.space"})
    allow = [{"type": "m.room_membership", "room_id": space}]
    rules = [join_rules("restricted", allow=allow)]
    room = await owner.create_room(preset="private_chat", room_version="11", initial_state=rules)
    await owner.set_state(space, "m.space.child", {"via": [owner.server.name]}, room)
    await guest.join(room, owner.server.name, expect=403)
    await guest.join(space, owner.server.name)
    await guest.join(room, owner.server.name)
    await eventually("they came in through the space", lambda: is_member(owner, room, guest, "join"))
    await guest.say(room, "a fine space")
    await eventually("they are heard", lambda: reads(owner, room, ["a fine space"]))


async def upgrade(owner: User, guest: User) -> None:
    room = await shared_room(owner, guest, room_version="10")
    answer = await owner.call("POST", f"/rooms/{room}/upgrade", {"new_version": "11"})
    replacement = answer["replacement_room"]

    async def knows_of_it():
        tombstone = await guest.content(room, "m.room.tombstone")
        return True if tombstone["replacement_room"] == replacement else tombstone

    await eventually("the guest sees the tombstone", knows_of_it)
    await guest.join(replacement, owner.server.name)
    create = await guest.content(replacement, "m.room.create")
    assert create["predecessor"]["room_id"] == room, create
    await guest.say(replacement, "new walls")
    await eventually("talk goes on in the new room", lambda: reads(owner, replacement, ["new walls"]))


async def shut_out(owner: User, guest: User) -> None:
    """By an access control list: the guest's server is denied by name, or as one that is named by an address."""
    room = await shared_room(owner, guest)
    await guest.say(room, "before")
    await eventually("the guest is heard", lambda: reads(owner, room, ["before"]))
    by_address = guest.server.host == "127.0.0.1"
    denied = {"allow": ["*"], "deny": [] if by_address else [guest.server.host], "allow_ip_literals": not by_address}
    await owner.set_state(room, "m.room.server_acl", denied)

    async def knows_the_list():
        return (await guest.content(room, "m.room.server_acl")) == denied

    await eventually("the guest's server hears of the list", knows_the_list)
    # Their server may refuse to send it, or ours to take it.
    path = f"/rooms/{room}/send/m.room.message/shut{owner.name}"
    async with guest.session.put(
        f"{guest.server.base_url}/_matrix/client/v3{path}",
        json={"msgtype": "m.text", "body": "unheard"},
        headers={"Authorization": f"Bearer {guest.token}"},
    ):
        pass
    # What goes another way comes through, so that it would have, too.
    other = await shared_room(owner, guest)
    await guest.say(other, "elsewhere")
    await eventually("elsewhere they are heard", lambda: reads(owner, other, ["elsewhere"]))
    assert await owner.history(room) == ["before"]
    await owner.set_state(room, "m.room.server_acl", {"allow": ["*"], "allow_ip_literals": True})

    async def is_lifted():
        return "deny" not in await guest.content(room, "m.room.server_acl")

    await eventually("the guest's server hears that it is lifted", is_lifted)
    await guest.say(room, "after")

    async def is_heard():
        return "after" in await owner.history(room)

    await eventually("the guest is heard again", is_heard)


async def redaction(owner: User, guest: User) -> None:
    room = await shared_room(owner, guest)
    for author, reader in ((owner, guest), (guest, owner)):
        said = await author.say(room, f"a slip of {author.name}")

        async def is_there():
            return f"a slip of {author.name}" in await reader.history(room)

        await eventually("it is read", is_there)
        await author.call("PUT", f"/rooms/{room}/redact/{said}/r{author.name}", {"reason": "a slip"})

        async def is_gone():
            event = await reader.call("GET", f"/rooms/{room}/event/{said}")
            return True if event["content"] == {} else event

        await eventually("it is gone", is_gone)


async def profile(owner: User, guest: User) -> None:
    room = await shared_room(owner, guest)
    for who, other in ((owner, guest), (guest, owner)):
        name = f"{who.name} of {room}"
        await who.call("PUT", f"/profile/{who.user_id}/displayname", {"displayname": name})

        async def is_known():
            return (await other.content(room, "m.room.member", who.user_id)).get("displayname") == name

        await eventually("the other sees the new name", is_known)
        seen = await other.call("GET", f"/profile/{who.user_id}/displayname")
        assert seen == {"displayname": name}, seen


async def presence(owner: User, guest: User) -> None:
    await shared_room(owner, guest)
    for who, other in ((owner, guest), (guest, owner)):
        text = f"{who.name} hosted by {owner.name}"
        await who.call("PUT", f"/presence/{who.user_id}/status", {"presence": "online", "status_msg": text})

        async def is_known():
            seen = await other.call("GET", f"/presence/{who.user_id}/status")
            return True if seen.get("status_msg") == text else seen

        await eventually("the other sees it", is_known)


async def receipts_and_typing(owner: User, guest: User) -> None:
    room = await shared_room(owner, guest)
    for who, other in ((owner, guest), (guest, owner)):
        said = await other.say(room, f"read this, {who.name}")

        async def is_there():
            return f"read this, {who.name}" in await who.history(room)

        await eventually("it is there", is_there)
        await who.call("POST", f"/rooms/{room}/receipt/m.read/{said}", {})

        async def is_read():
            content = await other.ephemeral(room, "m.receipt")
            return True if who.user_id in content.get(said, {}).get("m.read", {}) else content

        await eventually("the receipt", is_read)
        await who.call("PUT", f"/rooms/{room}/typing/{who.user_id}", {"typing": True, "timeout": 30000})

        async def types():
            return who.user_id in (await other.ephemeral(room, "m.typing")).get("user_ids", [])

        await eventually("they are seen typing", types)
        await who.call("PUT", f"/rooms/{room}/typing/{who.user_id}", {"typing": False})


async def directory(owner: User, guest: User) -> None:
    name = f"The hall of {owner.name}"
    room = await owner.create_room(name=name, visibility="public")

    async def is_listed():
        listed = await guest.call("GET", f"/publicRooms?server={owner.server.name}")
        return True if any(entry["room_id"] == room for entry in listed["chunk"]) else listed

    await eventually("the room is listed", is_listed)
    body = {"filter": {"generic_search_term": "hall of"}}
    found = await guest.call("POST", f"/publicRooms?server={owner.server.name}", body)
    assert [entry["name"] for entry in found["chunk"]] == [name], found


async def netsplit(owner: User, guest: User) -> None:
    """Both sides change what the other changes, too. When they hear of each other, they agree."""
    room = await shared_room(owner, guest)
    users = {owner.user_id: 100, guest.user_id: 100}
    if (await owner.content(room, "m.room.create")).get("room_version") == "12":
        del users[owner.user_id]
    levels = {**await owner.content(room, "m.room.power_levels"), "users": users}
    await owner.set_state(room, "m.room.power_levels", levels)

    async def has_power():
        return (await guest.content(room, "m.room.power_levels"))["users"].get(guest.user_id) == 100

    await eventually("both have power", has_power)
    gates = [owner.server.gate, guest.server.gate]
    for gate in gates:
        gate.shut()
    for who in (owner, guest):
        await who.set_state(room, "m.room.topic", {"topic": f"as {who.name} sees it"})
        await who.set_state(room, "m.room.name", {"name": f"{who.name}'s"})
        await who.say(room, f"{who.name} alone")
        await who.set_state(room, "m.room.power_levels", {**levels, "events_default": 10 if who is owner else 20})
        await who.set_state(room, "org.example.of", {"by": who.name}, who.name)
        await who.set_state(room, "m.room.join_rules", {"join_rule": "invite" if who is owner else "public"})
    for gate in gates:
        gate.open()
    for turn in range(2):
        for who, other in ((owner, guest), (guest, owner)):
            text = f"{who.name} is back, {turn}"
            await who.say(room, text)

            async def is_heard():
                return text in await other.history(room)

            await eventually("they hear each other again", is_heard)

    async def agree():
        here, there = await owner.state(room), await guest.state(room)
        return True if here == there else sorted(set(here.items()) ^ set(there.items()))

    await eventually("both have the same state", agree)
    state = await owner.state(room)
    assert ("org.example.of", owner.name) in state and ("org.example.of", guest.name) in state, state


ALL = [
    ("knocks", knocking),
    ("rooms through a space", through_a_space),
    ("upgrades", upgrade),
    ("access control lists", shut_out),
    ("redactions", redaction),
    ("profiles", profile),
    ("presence", presence),
    ("receipts and typing", receipts_and_typing),
    ("the directory of rooms", directory),
    ("a netsplit", netsplit),
]
