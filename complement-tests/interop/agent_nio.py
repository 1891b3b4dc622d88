"""One session of matrix-nio that does what it is told by lines of JSON, for encryption.py."""

import asyncio
import json
import sys
import tempfile
import time

from nio import (
    AsyncClient,
    AsyncClientConfig,
    JoinResponse,
    KeyVerificationEvent,
    KeyVerificationKey,
    KeyVerificationStart,
    LoginResponse,
    MegolmEvent,
    RegisterResponse,
    RoomCreateResponse,
    RoomGetEventError,
    RoomGetEventResponse,
    RoomInviteResponse,
    RoomLeaveResponse,
    RoomSendResponse,
)

PASSWORD = "correct horse battery staple"
DEADLINE_S = 90
TICK_S = 0.25
ENCRYPTION = {"type": "m.room.encryption", "state_key": "", "content": {"algorithm": "m.megolm.v1.aes-sha2"}}


def expect(response, kind):
    assert isinstance(response, kind), f"expected {kind.__name__}, got {response}"
    return response


async def until(what: str, found):
    end = time.monotonic() + DEADLINE_S
    while time.monotonic() < end:
        value = found()
        if asyncio.iscoroutine(value):
            value = await value
        if value:
            return value
        await asyncio.sleep(TICK_S)
    raise AssertionError(f"never saw {what}")


class Agent:
    def __init__(self, store: str) -> None:
        self.store = store
        self.client: AsyncClient | None = None
        self.syncing: asyncio.Task | None = None
        self.verification: str | None = None
        self.shown: dict[str, list[str]] = {}
        self.started: list[str] = []

    def make(self, url: str, user: str) -> None:
        config = AsyncClientConfig(encryption_enabled=True, store_sync_tokens=True)
        self.client = AsyncClient(url, user, store_path=self.store, config=config)

    async def start(self) -> dict:
        self.client.add_to_device_callback(self.verifying, (KeyVerificationEvent,))
        await self.client.sync(timeout=0, full_state=True)
        await self.client.keys_upload()
        self.syncing = asyncio.create_task(self.client.sync_forever(timeout=10_000))
        client = self.client
        return {"user_id": client.user_id, "device_id": client.device_id, "access_token": client.access_token}

    async def verifying(self, event) -> None:
        if isinstance(event, KeyVerificationStart):
            self.started.append(event.transaction_id)
        elif isinstance(event, KeyVerificationKey):
            sas = self.client.key_verifications[event.transaction_id]
            self.shown[event.transaction_id] = [symbol for symbol, _ in sas.get_emoji()]

    async def register(self, server: dict, name: str) -> dict:
        self.make(server["baseUrl"], name)
        expect(await self.client.register(name, PASSWORD, "nio"), RegisterResponse)
        return await self.start()

    async def log_in(self, server: dict, user: str) -> dict:
        self.make(server["baseUrl"], user)
        expect(await self.client.login(PASSWORD, "later"), LoginResponse)
        return await self.start()

    async def log_out(self) -> None:
        self.syncing.cancel()
        await self.client.logout()

    async def create_room(self) -> str:
        room = expect(await self.client.room_create(initial_state=[ENCRYPTION]), RoomCreateResponse).room_id
        await until("the room", lambda: room in self.client.rooms and self.client.rooms[room].encrypted)
        return room

    async def invite(self, room: str, user: str) -> None:
        expect(await self.client.room_invite(room, user), RoomInviteResponse)

    async def join(self, room: str) -> None:
        await until("the invitation", lambda: room in self.client.invited_rooms)
        expect(await self.client.join(room), JoinResponse)
        await until("the room", lambda: room in self.client.rooms and self.client.rooms[room].encrypted)

    async def leave(self, room: str) -> None:
        expect(await self.client.room_leave(room), RoomLeaveResponse)

    async def sees_member(self, room: str, user: str, membership: str) -> None:
        def is_so():
            members = self.client.rooms[room]
            joined = user in members.users and user not in members.invited_users
            return joined == (membership == "join")

        await until(f"{user} as {membership}", is_so)

    async def sees_device(self, user: str, device: str, present: bool) -> None:
        def is_so():
            devices = self.client.device_store[user]
            return (device in devices and not devices[device].deleted) == present

        await until(f"{device}: {present}", is_so)

    async def say(self, room: str, body: str) -> str:
        content = {"msgtype": "m.text", "body": body}
        sent = await self.client.room_send(room, "m.room.message", content, ignore_unverified_devices=True)
        return expect(sent, RoomSendResponse).event_id

    async def decrypted(self, room: str, event: str) -> str | None:
        found = expect(await self.client.room_get_event(room, event), RoomGetEventResponse).event
        if isinstance(found, MegolmEvent):
            return None
        assert found.decrypted, f"it was not encrypted: {found}"
        return found.body

    async def reads(self, room: str, event: str, body: str) -> None:
        async def is_so():
            found = await self.client.room_get_event(room, event)
            # It may be on its way from another server.
            if isinstance(found, RoomGetEventError) and found.status_code == "M_NOT_FOUND":
                return False
            return await self.decrypted(room, event) == body

        await until(body, is_so)

    async def cannot_read(self, room: str, event: str) -> None:
        assert await self.decrypted(room, event) is None, "it can read that"

    async def request_verification(self, user: str, device: str) -> list[str]:
        await until("the device", lambda: device in self.client.device_store[user])
        await self.client.start_key_verification(self.client.device_store[user][device])
        self.verification = next(iter(self.client.key_verifications))
        return await until("emoji", lambda: self.shown.get(self.verification))

    async def accept_verification(self) -> list[str]:
        self.verification = await until("a request", lambda: self.started and self.started.pop())
        await self.client.accept_key_verification(self.verification)
        return await until("emoji", lambda: self.shown.get(self.verification))

    async def confirm(self) -> None:
        await self.client.confirm_short_auth_string(self.verification)
        await until("the confirmation", lambda: self.client.key_verifications[self.verification].verified)


async def main() -> None:
    with tempfile.TemporaryDirectory() as store:
        agent = Agent(store)
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin)
        while line := await reader.readline():
            asked = json.loads(line)
            try:
                answer = {"value": await getattr(agent, asked.pop("act"))(**asked)}
            except Exception as error:  # whatever it is, whoever asked is to hear of it
                answer = {"error": f"{type(error).__name__}: {error}"}
            print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
