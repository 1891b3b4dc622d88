"""Our machine for end-to-end encryption against matrix-nio's, on a running nudge.

    machine_nio.py      NUDGE_BINARY and MACHINE_CLIENT_BINARY name the binaries

A client on our machine and one on matrix-nio write to each other in an encrypted room; the first is killed and started anew
in between; sessions are changed. They do not verify each other: of the codes for keys, matrix-nio has only the deprecated
one. Needs `matrix-nio[e2e]`.
"""

import asyncio
import json
import os
import sys
import tempfile
from pathlib import Path

from nio import (
    AsyncClient,
    AsyncClientConfig,
    MegolmEvent,
    RegisterResponse,
    RoomCreateResponse,
    RoomMessageText,
    RoomSendResponse,
    SyncResponse,
)

from homeservers import CertificateAuthority, Nudge

PASSWORD = "correct horse battery staple"
DEADLINE_S = 60


class MachineClient:
    """The client on our machine: a child process that is told what to do and tells what happens."""

    def __init__(self, server: Nudge, name: str, folder: Path) -> None:
        self.arguments = [server.base_url, name, PASSWORD, str(folder / f"{name}.store")]
        self.told: list[dict] = []

    async def start(self) -> dict:
        self.process = await asyncio.create_subprocess_exec(
            os.environ["MACHINE_CLIENT_BINARY"], *self.arguments,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )
        return await self.hear("ready")

    async def stop(self) -> None:
        """Without any warning."""
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()

    async def wish(self, what: str, **more) -> None:
        self.process.stdin.write(json.dumps({"do": what, **more}).encode() + b"\n")
        await self.process.stdin.drain()

    async def hear(self, what: str, **more) -> dict:
        """Waits until something happens, and forgets what happened before."""
        async with asyncio.timeout(DEADLINE_S):
            while line := await self.process.stdout.readline():
                news = json.loads(line)
                self.told.append(news)
                if news["is"] == what and all(news.get(key) == value for key, value in more.items()):
                    return news
        raise AssertionError(f"never heard {what} {more}: {self.told[-10:]}")


class Nio:
    """The client on matrix-nio."""

    async def start(self, server: Nudge, name: str, folder: Path) -> None:
        store = folder / name
        store.mkdir()
        config = AsyncClientConfig(encryption_enabled=True, store_sync_tokens=True)
        self.client = AsyncClient(server.base_url, name, store_path=str(store), config=config)
        response = await self.client.register(name, PASSWORD, "nio")
        assert isinstance(response, RegisterResponse), response
        self.messages: list[RoomMessageText] = []
        self.failed: list[MegolmEvent] = []
        self.client.add_event_callback(lambda _, event: self.messages.append(event), RoomMessageText)
        self.client.add_event_callback(lambda _, event: self.failed.append(event), MegolmEvent)

    async def sync(self) -> None:
        """What `sync_forever` does, once."""
        response = await self.client.sync(timeout=500, full_state=False)
        assert isinstance(response, SyncResponse), response
        await self.client.run_response_callbacks([response])
        if self.client.should_upload_keys:
            await self.client.keys_upload()
        if self.client.should_query_keys:
            await self.client.keys_query()
        if self.client.should_claim_keys:
            await self.client.keys_claim(self.client.get_users_for_key_claiming())
        await self.client.send_to_device_messages()

    async def until(self, condition, what: str):
        async with asyncio.timeout(DEADLINE_S):
            while True:
                if found := condition():
                    return found
                await self.sync()
        raise AssertionError(f"nio never saw {what}")

    async def read(self, body: str) -> RoomMessageText:
        found = await self.until(lambda: next((m for m in self.messages if m.body == body), None), body)
        assert found.decrypted, "it came in the clear"
        return found

    async def send(self, room_id: str, body: str) -> None:
        content = {"msgtype": "m.text", "body": body}
        response = await self.client.room_send(room_id, "m.room.message", content, ignore_unverified_devices=True)
        assert isinstance(response, RoomSendResponse), response


async def syncing(nio: Nio, waiting):
    """Waits for the other while nio goes on."""
    task = asyncio.create_task(waiting)
    while not task.done():
        await nio.sync()
        await asyncio.sleep(0.05)
    return task.result()


async def converse(server: Nudge, folder: Path) -> None:
    machine, nio = MachineClient(server, "machine", folder), Nio()
    ours = await machine.start()
    await nio.start(server, "nio", folder)
    await nio.sync()
    encryption = {"type": "m.room.encryption", "state_key": "", "content": {"algorithm": "m.megolm.v1.aes-sha2"}}
    created = await nio.client.room_create(invite=[ours["user_id"]], initial_state=[encryption])
    assert isinstance(created, RoomCreateResponse), created
    room_id = created.room_id
    await syncing(nio, machine.hear("encrypted", room_id=room_id))
    members = lambda: room_id in nio.client.rooms and ours["user_id"] in nio.client.rooms[room_id].users
    await nio.until(members, "the other in the room")

    await nio.send(room_id, "from nio")
    heard = await machine.hear("message", body="from nio")
    assert heard["sender"] == nio.client.user_id and heard["verdict"] == "UnsignedDevice", heard
    await machine.wish("send", room_id=room_id, body="from the machine")
    await machine.hear("sent")
    await nio.read("from the machine")

    await machine.stop()
    await nio.send(room_id, "while you were away")
    same = await machine.start()
    assert same == ours
    await machine.hear("message", body="while you were away")
    for number in range(3):
        await machine.wish("rotate", room_id=room_id)
        await machine.wish("send", room_id=room_id, body=f"session {number}")
        await machine.hear("sent")
        await nio.read(f"session {number}")
        await nio.send(room_id, f"answer {number}")
        await machine.hear("message", body=f"answer {number}")
    assert not nio.failed, nio.failed
    assert not [news for news in machine.told if news["is"] in ("undecryptable", "failure")], machine.told
    await machine.stop()
    await nio.client.close()


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        server = Nudge(folder / "nudge", CertificateAuthority(folder))
        server.start()
        try:
            asyncio.run(converse(server, folder))
        except BaseException:
            print(server.log_tail())
            raise
        finally:
            server.stop()
    print("our machine and matrix-nio: passed")


if __name__ == "__main__":
    sys.exit(main())
