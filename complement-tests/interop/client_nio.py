"""matrix-nio against our binary: two people register, meet in a room, talk, and leave."""

import asyncio
import tempfile
from pathlib import Path

from nio import (
    AsyncClient,
    InviteMemberEvent,
    JoinedMembersResponse,
    JoinResponse,
    LoginResponse,
    LogoutResponse,
    RegisterResponse,
    RoomCreateResponse,
    RoomForgetResponse,
    RoomGetEventResponse,
    RoomInviteResponse,
    RoomKickResponse,
    RoomLeaveResponse,
    RoomMessagesResponse,
    RoomMessageText,
    RoomPutStateResponse,
    RoomReadMarkersResponse,
    RoomRedactResponse,
    RoomSendResponse,
    RoomTypingResponse,
    ProfileGetResponse,
    ProfileSetDisplayNameResponse,
    SyncResponse,
    WhoamiResponse,
)

from homeservers import CertificateAuthority, Nudge

PASSWORD = "correct horse battery staple"


def expect(response, kind):
    assert isinstance(response, kind), f"expected {kind.__name__}, got {response}"
    return response


async def register(server: Nudge, name: str) -> AsyncClient:
    client = AsyncClient(server.base_url, name)
    expect(await client.register(name, PASSWORD, "nio"), RegisterResponse)
    assert client.user_id == f"@{name}:{server.name}"
    return client


async def sync_until(client: AsyncClient, condition, what: str):
    for _ in range(30):
        response = expect(await client.sync(timeout=20_000), SyncResponse)
        if (found := condition(response)) is not None:
            return found
    raise AssertionError(f"{client.user_id} never saw {what}")


def message_in(room_id: str, body: str):
    def find(response: SyncResponse):
        room = response.rooms.join.get(room_id)
        events = room.timeline.events if room else []
        return next((event for event in events if isinstance(event, RoomMessageText) and event.body == body), None)

    return find


def invite_to(room_id: str):
    def find(response: SyncResponse):
        room = response.rooms.invite.get(room_id)
        events = room.invite_state if room else []
        return next((event for event in events if isinstance(event, InviteMemberEvent)), None)

    return find


async def converse(server: Nudge) -> None:
    alice, bob = await register(server, "alice"), await register(server, "bob")
    expect(await alice.whoami(), WhoamiResponse)
    expect(await alice.set_displayname("Alice"), ProfileSetDisplayNameResponse)
    assert expect(await bob.get_profile(alice.user_id), ProfileGetResponse).displayname == "Alice"

    room_id = expect(await alice.room_create(name="Tea", topic="Leaves"), RoomCreateResponse).room_id
    expect(await alice.room_invite(room_id, bob.user_id), RoomInviteResponse)
    await sync_until(bob, invite_to(room_id), "the invitation")
    expect(await bob.join(room_id), JoinResponse)
    members = expect(await alice.joined_members(room_id), JoinedMembersResponse).members
    assert {member.user_id for member in members} == {alice.user_id, bob.user_id}

    hello = {"msgtype": "m.text", "body": "Hello Bob"}
    sent = expect(await alice.room_send(room_id, "m.room.message", hello), RoomSendResponse).event_id
    seen = await sync_until(bob, message_in(room_id, "Hello Bob"), "the greeting")
    assert seen.event_id == sent and seen.sender == alice.user_id
    expect(await bob.room_typing(room_id, True), RoomTypingResponse)
    expect(await bob.room_read_markers(room_id, sent, sent), RoomReadMarkersResponse)
    same = expect(await bob.room_get_event(room_id, sent), RoomGetEventResponse).event
    assert same.body == "Hello Bob"

    # A long poll that waits is woken by what it waits for.
    await alice.sync()
    waiting = asyncio.create_task(sync_until(alice, message_in(room_id, "Hello Alice"), "the answer"))
    await asyncio.sleep(0.2)
    reply = {"msgtype": "m.text", "body": "Hello Alice"}
    expect(await bob.room_send(room_id, "m.room.message", reply, tx_id="once"), RoomSendResponse)
    assert (await asyncio.wait_for(waiting, 5)).sender == bob.user_id
    again = expect(await bob.room_send(room_id, "m.room.message", reply, tx_id="once"), RoomSendResponse)
    page = expect(await alice.room_messages(room_id, start=None, limit=50), RoomMessagesResponse)
    bodies = [event.body for event in page.chunk if isinstance(event, RoomMessageText)]
    assert bodies == ["Hello Alice", "Hello Bob"], bodies
    assert page.chunk[0].event_id == again.event_id

    expect(await bob.room_redact(room_id, again.event_id, "typo"), RoomRedactResponse)
    redacted = expect(await alice.room_get_event(room_id, again.event_id), RoomGetEventResponse).event
    assert not isinstance(redacted, RoomMessageText), "the redacted text is still served"
    expect(await alice.room_put_state(room_id, "m.room.topic", {"topic": "Coffee"}), RoomPutStateResponse)
    expect(await alice.room_kick(room_id, bob.user_id, "time for bed"), RoomKickResponse)
    left = await sync_until(bob, lambda response: response.rooms.leave.get(room_id), "their own removal")
    assert left is not None
    expect(await bob.room_forget(room_id), RoomForgetResponse)
    expect(await alice.room_leave(room_id), RoomLeaveResponse)

    second = AsyncClient(server.base_url, alice.user_id)
    expect(await second.login(PASSWORD, "second device"), LoginResponse)
    expect(await second.logout(), LogoutResponse)
    for client in (alice, bob, second):
        await client.close()


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        server = Nudge(Path(folder) / "nudge", CertificateAuthority(Path(folder)))
        server.start()
        try:
            asyncio.run(converse(server))
        except BaseException:
            print(server.log_tail())
            raise
        finally:
            server.stop()
    print("matrix-nio: passed")


if __name__ == "__main__":
    main()
