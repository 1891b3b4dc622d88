"""A program on mautrix, which most bridges are made with, as an encrypted application service: what is said in an encrypted
room reaches it and is answered, also by and to devices that are made later, and after it was killed. MAUTRIX_PYTHON names
a Python that has mautrix."""

import asyncio
import json
import os
import sys
import tempfile
from pathlib import Path

from encryption import SESSIONS, Session, bring
from homeservers import CertificateAuthority, Nudge, free_port

HERE = Path(__file__).parent
DEADLINE_S = 90
NAME = "mautrixbot"
REGISTRATION = """id: mautrix
url: http://127.0.0.1:{port}
as_token: as-token-of-the-mautrix-bot
hs_token: hs-token-of-the-mautrix-bot
sender_localpart: {name}
rate_limited: false
namespaces: {{}}
receive_ephemeral: true
org.matrix.msc3202: true
io.element.msc4190: true
"""


class Bot:
    """The program, and what it tells."""

    def __init__(self, folder: Path, server: Nudge) -> None:
        self.folder, self.server, self.port, self.process = folder, server, free_port(), None
        self.user_id = f"@{NAME}:{server.name}"
        folder.mkdir()
        self.registration = folder / "registration.yaml"
        self.registration.write_text(REGISTRATION.format(port=self.port, name=NAME))

    async def start(self) -> dict:
        place = [str(self.folder), self.server.base_url, self.server.name, str(self.port)]
        with (self.folder / "log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                os.environ["MAUTRIX_PYTHON"], str(HERE / "bot_mautrix.py"), *place,
                stdout=asyncio.subprocess.PIPE, stderr=log,
            )
        return await self.tells("started")

    async def kill(self) -> None:
        if self.process and self.process.returncode is None:
            self.process.kill()
            await self.process.wait()

    async def tells(self, name: str) -> dict:
        """Waits for a line that has something of that name."""
        while True:
            line = await asyncio.wait_for(self.process.stdout.readline(), DEADLINE_S)
            assert line, "the bot has ended"
            told = json.loads(line)
            if name in told:
                return told

    def log_tail(self) -> str:
        return "\n".join((self.folder / "log").read_text(errors="replace").splitlines()[-80:])


async def is_answered(bot: Bot, readers: list[Session], room: str, body: str) -> None:
    told = await bot.tells("heard")
    assert told["heard"] == body, told
    reading = (reader.do("reads", room=room, event=told["answer"], body=told["body"]) for reader in readers)
    await asyncio.gather(*reading)


async def scenes(server: Nudge, bot: Bot, kind: str) -> None:
    started = await bot.start()
    assert started["new"], started
    alice, bob = await asyncio.gather(Session.register(kind, server, "alice"), Session.register(kind, server, "bob"))
    room = await alice.do("create_room")
    await alice.do("invite", room=room, user=bot.user_id)
    await alice.do("sees_member", room=room, user=bot.user_id, membership="join")
    await alice.do("sees_device", user=bot.user_id, device=started["started"], present=True)
    for words in ("hello", "and again"):
        await alice.do("say", room=room, body=words)
        await is_answered(bot, [alice], room, words)
    print("  heard and answered in an encrypted room", flush=True)

    await bring(alice, bob, room, [])
    await bob.do("sees_device", user=bot.user_id, device=started["started"], present=True)
    await bob.do("say", room=room, body="I am new here")
    await is_answered(bot, [alice, bob], room, "I am new here")
    second = await alice.another(kind)
    while alice.user_id not in (await bot.tells("changed"))["changed"]:
        pass
    await second.do("sees_device", user=bot.user_id, device=started["started"], present=True)
    await second.do("say", room=room, body="from my new device")
    await is_answered(bot, [alice, bob, second], room, "from my new device")
    print("  somebody who came later, and a new device", flush=True)

    await bob.do("leave", room=room)
    while bob.user_id not in (await bot.tells("left"))["left"]:
        pass
    await alice.do("say", room=room, body="now that he has left")
    await is_answered(bot, [alice, second], room, "now that he has left")
    print("  somebody who left", flush=True)

    await bot.kill()
    missed = [f"missed {number}" for number in range(5)]
    for words in missed:
        await alice.do("say", room=room, body=words)
    # A key that comes while the bot is away waits for it too.
    third = await alice.another(kind)
    await third.do("sees_device", user=bot.user_id, device=started["started"], present=True)
    await third.do("say", room=room, body="from a device it does not know")
    again = await bot.start()
    assert again == {"started": started["started"], "new": False}, again
    for words in (*missed, "from a device it does not know"):
        await is_answered(bot, [alice], room, words)
    print("  what was said while it was killed", flush=True)


async def run(server: Nudge, bot: Bot, kind: str) -> None:
    try:
        await scenes(server, bot, kind)
    finally:
        for session in SESSIONS:
            await session.end()
        await bot.kill()


def main(kind: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        server = Nudge(folder / "nudge", CertificateAuthority(folder))
        bot = Bot(folder / "bot", server)
        server.add_service(bot.registration)
        server.start()
        try:
            asyncio.run(run(server, bot, kind))
        except BaseException:
            print(bot.log_tail(), server.log_tail(), sep="\n", file=sys.stderr)
            raise
        finally:
            server.stop()
    print(f"an encrypted application service on mautrix, with {kind}: passed")


if __name__ == "__main__":
    main(*(sys.argv[1:] or ["nio"]))
