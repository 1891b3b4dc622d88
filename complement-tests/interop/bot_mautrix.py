"""A bot on mautrix as an application service with encryption: `bot_mautrix.py <folder> <homeserver url> <server name> <port>`.

All that it hears comes in transactions, what is for its device (MSC4203) and about devices (MSC3202) too; it makes the
device itself (MSC4190). It says each message back, and tells what it does by lines of JSON."""

import asyncio
import json
import logging
import sys
from pathlib import Path

from mautrix.appservice import AppService, ASStateStore
from mautrix.client import Client
from mautrix.client.state_store import MemoryStateStore
from mautrix.client.state_store.asyncpg import PgStateStore
from mautrix.crypto import OlmMachine, PgCryptoStore
from mautrix.types import EventType, Membership, MessageType, StateEvent, TextMessageEventContent
from mautrix.util.async_db import Database

NAME = "mautrixbot"
AS_TOKEN, HS_TOKEN = "as-token-of-the-mautrix-bot", "hs-token-of-the-mautrix-bot"


class BotStateStore(ASStateStore, MemoryStateStore):
    """What the library for application services remembers beside."""

    def __init__(self) -> None:
        ASStateStore.__init__(self)
        MemoryStateStore.__init__(self)


def tell(**what) -> None:
    print(json.dumps(what), flush=True)


class Bot:
    def __init__(self, folder: Path, url: str, server_name: str, port: int) -> None:
        self.port = port
        self.user_id = f"@{NAME}:{server_name}"
        self.service = AppService(
            url, server_name, AS_TOKEN, HS_TOKEN, NAME, "mautrix", encryption_events=True, ephemeral_events=True,
            state_store=BotStateStore(),
        )
        # A transaction is done when all in it is done: what is in the midst at the end comes again.
        self.service.synchronous_handlers = True
        self.keys = Database.create(f"sqlite:///{folder}/keys.db", upgrade_table=PgCryptoStore.upgrade_table)
        self.states = Database.create(f"sqlite:///{folder}/states.db", upgrade_table=PgStateStore.upgrade_table)
        self.crypto_store = PgCryptoStore("", "of no matter", self.keys)
        self.client = Client(mxid=self.user_id, base_url=url, state_store=PgStateStore(self.states))
        self.client.api.token = AS_TOKEN
        self.crypto = OlmMachine(self.client, self.crypto_store, self.client.state_store)
        self.client.crypto = self.crypto
        self.service.otk_handler = self.crypto.handle_as_otk_counts
        self.service.device_list_handler = self.device_lists
        self.service.to_device_handler = self.crypto.handle_as_to_device_event
        self.service.matrix_event_handler(self.hear)

    async def start(self) -> None:
        await self.keys.start()
        await self.states.start()
        await self.crypto_store.open()
        device = await self.crypto_store.get_device_id()
        await self.client.create_device_msc4190(device or "", "A bot on mautrix")
        await self.crypto.load()
        if not device:
            await self.crypto_store.put_device_id(self.client.device_id)
            await self.crypto.share_keys()
        await self.service.start("127.0.0.1", self.port)
        await self.service.ping_self("started")
        tell(started=self.client.device_id, new=not device)

    async def device_lists(self, lists) -> None:
        tell(changed=sorted(lists.changed), left=sorted(lists.left))
        await self.crypto.handle_as_device_lists(lists)

    async def hear(self, event) -> None:
        if event.type.is_ephemeral:
            return
        if isinstance(event, StateEvent):
            if event.type == EventType.ROOM_MEMBER:
                await self.crypto.handle_member_event(event)
            await self.client.state_store.update_state(event)
            if event.state_key == self.user_id and event.content.membership == Membership.INVITE:
                await self.client.join_room_by_id(event.room_id)
        elif event.type == EventType.ROOM_ENCRYPTED and event.sender != self.user_id:
            await self.answer(event)

    async def answer(self, event) -> None:
        # The key was sent before the message, so it comes in an earlier transaction or before it in the same one.
        said = await self.crypto.decrypt_megolm_event(event)
        body = f"You said: {said.content.body}"
        content = TextMessageEventContent(msgtype=MessageType.TEXT, body=body)
        answer = await self.client.send_message_event(event.room_id, EventType.ROOM_MESSAGE, content)
        tell(heard=said.content.body, event=event.event_id, answer=answer, body=body)


async def main() -> None:
    folder, url, server_name, port = sys.argv[1:]
    await Bot(Path(folder), url, server_name, int(port)).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)
    logging.getLogger("aiosqlite").setLevel(logging.INFO)
    asyncio.run(main())
