"""nudge-aibots as an application service: `bots.py synapse|nudge`. The same scenario beside either homeserver: direct chat,
a group with two bots, a nudge, commands, a provider that fails and one that is slow, a restart in the middle of an answer,
a configuration that is read again while they run, metrics, and encrypted direct chats with matrix-nio, whose keys come back
from their backup when the bot's device is lost, and, where INTEROP_AGENT_JS names it, with matrix-js-sdk, which verifies the
bot by emoji."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import aiohttp
from nio import AsyncClient, AsyncClientConfig, MegolmEvent, RoomMessageNotice, RoomMessageText

from conversation import User, eventually
from encryption import Session
from homeservers import CertificateAuthority, Homeserver, Nudge, Synapse, free_port

PASSWORD = "correct horse battery staple"
BOTS = ["friendly-assistant", "casual-friend", "creative-companion"]


class Provider(ThreadingHTTPServer):
    """Chat completions that do what the last word of the conversation says."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Completions)
        self.asked: list[str] = []
        self.told: list[str] = []
        self.may_go_on = threading.Event()
        self.failures = 0
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Completions(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_) -> None:
        pass

    def refuse(self, status: int, **headers: str) -> None:
        body = json.dumps({"error": {"message": "no", "type": "test", "code": None}}).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        last = asked["messages"][-1]["content"]
        last = last if isinstance(last, str) else " ".join(part.get("text", "") for part in last)
        self.server.asked.append(last)
        self.server.told.append(json.dumps(asked["messages"]))
        if "be busy" in last and self.server.failures > 0:
            self.server.failures -= 1
            return self.refuse(429, Retry_After="1")
        if "be broken" in last:
            return self.refuse(401)
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        try:
            self.piece("You said: ")
            if "be slow" in last:
                self.piece("this takes a while, and here is enough of it to be shown; ")
                self.server.may_go_on.wait(60)
            self.piece(last.splitlines()[-1])
            self.wfile.write(b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n')
        except OSError:
            pass
        self.close_connection = True

    def piece(self, text: str) -> None:
        chunk = {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]}
        self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
        self.wfile.flush()


class Bots:
    """The program under test."""

    def __init__(self, folder: Path, server: Homeserver, provider: Provider) -> None:
        self.folder, self.process, self.port, self.metrics_port = folder, None, free_port(), free_port()
        self.file = folder / "aibots.toml"
        folder.mkdir()
        bots = "".join(f"""
[[bots]]
localpart = "{name}"
name = "{name.replace("-", " ").title()}"
tagline = "Here to test"
prompt = "Be short."
provider = "double"
model = "{name}"
""" for name in BOTS)
        self.file.write_text(f"""
[homeserver]
url = "{server.base_url}"
server_name = "{server.name}"

[service]
listen = "127.0.0.1:{self.port}"
metrics_listen = "127.0.0.1:{self.metrics_port}"
data_dir = "{folder}/data"

[conversation]
replies_per_minute = 100

[providers.double]
kind = "compatible"
base_url = "{provider.url}"
{bots}""")
        self.registration = folder / "data" / "registration.yaml"
        subprocess.run(self.command("registration"), check=True, capture_output=True)

    def command(self, what: str) -> list[str]:
        return [os.environ["AIBOTS_BINARY"], "--config", str(self.file), what]

    def start(self) -> None:
        environment = {**os.environ, "NUDGE_AIBOTS_LOG": "info,aibots=debug"}
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(self.command("run"), stdout=log, stderr=log, env=environment)

    def stop(self, how: int = signal.SIGTERM) -> None:
        if self.process and self.process.poll() is None:
            self.process.send_signal(how)
            self.process.wait(30)

    def read_again(self, change) -> None:
        """Changes the configuration while the program runs."""
        self.file.write_text(change(self.file.read_text()))
        self.process.send_signal(signal.SIGHUP)

    def log(self) -> str:
        # Without colours.
        return re.sub("\x1b\\[[0-9;]*m", "", (self.folder / "log").read_text(errors="replace"))

    def log_tail(self) -> str:
        return "\n".join((self.folder / "log").read_text(errors="replace").splitlines()[-60:])


class Person(User):
    """Somebody who talks with bots."""

    def bot(self, name: str) -> str:
        return f"@{name}:{self.server.name}"

    async def room_with(self, *bots: str) -> str:
        options = {"preset": "trusted_private_chat", "invite": [self.bot(name) for name in bots], "is_direct": len(bots) == 1}
        room = await self.create_room(**options)
        for name in bots:
            await eventually(f"{name} joins", lambda: self.sees(room, name, "join"))
        return room

    async def invite_late(self, name: str) -> str:
        """A room whose invitation waits for the bots to be back."""
        return await self.create_room(preset="trusted_private_chat", invite=[self.bot(name)], is_direct=True)

    async def sees(self, room: str, name: str, membership: str):
        members = await self.members(room)
        return True if members.get(self.bot(name)) == membership else members

    async def answers(self, room: str, event: str) -> list[tuple[str, str]]:
        """Who has answered an event, and the words as they are now."""
        page = await self.call("GET", f"/rooms/{room}/messages?dir=b&limit=100")
        found, edits = [], {}
        for message in page["chunk"]:
            content = message["content"]
            relation = content.get("m.relates_to", {})
            if relation.get("rel_type") == "m.replace":
                edits.setdefault(relation["event_id"], content["m.new_content"]["body"])
            elif content.get("chat.nudge.ai", {}).get("in_reply_to") == event:
                body = edits.get(message["event_id"], content["body"])
                found.append((message["sender"].split(":")[0][1:], body))
        return found[::-1]

    async def is_answered(self, room: str, event: str, expected: list[tuple[str, str]]):
        answers = await self.answers(room, event)
        return True if answers == expected else answers


async def direct_chat(person: Person) -> None:
    if isinstance(person.server, Nudge):
        # Synapse leaves users of application services out; there the room of the bots shows them.
        await eventually("the bot in the user directory", lambda: finds(person, "casual", "casual-friend"))
    profile = await person.call("GET", f"/profile/{person.bot('casual-friend')}")
    assert profile["displayname"] == "Casual Friend" and profile["avatar_url"].startswith("mxc://"), profile
    room = await person.room_with("casual-friend")
    for words in ("hello", "and again"):
        event = await person.say(room, words)
        await eventually("the answer", lambda: person.is_answered(room, event, [("casual-friend", f"You said: {words}")]))
    receipts = await person.ephemeral(room, "m.receipt")
    assert event in receipts, receipts
    command = await person.say(room, "!ai settings")
    await eventually("the settings", lambda: knows_settings(person, room, command))


async def finds(person: Person, term: str, name: str):
    """A bot is found by those who share no room with it."""
    found = await person.call("POST", "/user_directory/search", {"search_term": term})
    return True if any(result["user_id"] == person.bot(name) for result in found["results"]) else found


async def knows_settings(person: Person, room: str, event: str):
    answers = await person.answers(room, event)
    return True if len(answers) == 1 and "Casual Friend" in answers[0][1] else answers


async def group(person: Person) -> None:
    room = await person.room_with("friendly-assistant", "creative-companion")
    event = await person.say(room, "hello everybody")
    spoken = f"{person.name}: hello everybody"
    await eventually("two answers", lambda: counts(person, room, event, 2))
    answers = await person.answers(room, event)
    assert {bot for bot, _ in answers} == {"friendly-assistant", "creative-companion"}, answers
    assert answers[0][1] == f"You said: {spoken}", answers
    event = await person.say(room, "creative companion, you alone")
    await eventually("one answer", lambda: counts(person, room, event, 1))
    path = f"/rooms/{room}/send/m.room.message/nudge"
    content = {"msgtype": "m.emote", "body": "nudges everybody", "chat.nudge.nudge": {}}
    nudge = (await person.call("PUT", path, content))["event_id"]
    await eventually("answers to a nudge", lambda: counts(person, room, nudge, 2))
    before = len(await person.history(room))
    await asyncio.sleep(3)
    assert len(await person.history(room)) == before, "bots talk with one another"
    await person.leave(room)


async def counts(person: Person, room: str, event: str, expected: int):
    answers = await person.answers(room, event)
    return True if len(answers) == expected else answers


async def failures(person: Person, provider: Provider) -> None:
    room = await person.room_with("casual-friend")
    provider.failures = 2
    event = await person.say(room, "be busy")
    await eventually("an answer after 429", lambda: person.is_answered(room, event, [("casual-friend", "You said: be busy")]))
    event = await person.say(room, "be broken")
    await eventually("an apology", lambda: counts(person, room, event, 1))
    assert "sorry" in (await person.answers(room, event))[0][1]
    # A slow provider holds up no other conversation.
    provider.may_go_on.clear()
    room = await person.room_with("friendly-assistant")
    slow = await person.say(room, "be slow")
    await eventually("it begins", lambda: counts(person, room, slow, 1))
    other = await person.room_with("creative-companion")
    event = await person.say(other, "quick")
    await eventually("the other answers", lambda: person.is_answered(other, event, [("creative-companion", "You said: quick")]))
    assert (await person.answers(room, slow))[0][1].endswith("...")
    provider.may_go_on.set()
    await eventually("the whole text", lambda: ends_with(person, room, slow, "be slow"))


async def ends_with(person: Person, room: str, event: str, end: str):
    answers = await person.answers(room, event)
    return True if len(answers) == 1 and answers[0][1].endswith(end) else answers


async def restart(person: Person, provider: Provider, bots: Bots) -> None:
    room = await person.room_with("friendly-assistant")
    provider.may_go_on.clear()
    event = await person.say(room, "be slow, please")
    await eventually("it begins", lambda: counts(person, room, event, 1))
    bots.stop(signal.SIGKILL)
    missed = await person.invite_late("casual-friend")
    provider.may_go_on.set()
    bots.start()
    await eventually("it is finished once", lambda: ends_with(person, room, event, "be slow, please"))
    await eventually("the invitation is taken", lambda: person.sees(missed, "casual-friend", "join"))
    await asyncio.sleep(2)
    assert len(await person.answers(room, event)) == 1


async def reread(person: Person, bots: Bots) -> None:
    """A new name and a mistake: the program takes the one, and not the other, and does not end."""
    async def has_new_name():
        profile = await person.call("GET", f"/profile/{person.bot('casual-friend')}")
        return True if profile["displayname"] == "Carla" else profile

    process = bots.process
    bots.read_again(lambda text: text.replace('name = "Casual Friend"', 'name = "Carla"'))
    await eventually("the new name", has_new_name)
    bots.read_again(lambda text: text.replace('name = "Carla"', 'nonsense = "Carla"'))
    room = await person.room_with("casual-friend")
    event = await person.say(room, "are you still there")
    await eventually("the answer", lambda: person.is_answered(room, event, [("casual-friend", "You said: are you still there")]))
    assert bots.process is process and process.poll() is None
    bots.read_again(lambda text: text.replace('nonsense = "Carla"', 'name = "Casual Friend"'))
    async with person.session.get(f"http://127.0.0.1:{bots.metrics_port}/metrics") as response:
        text = await response.text()
    assert "aibots_replies_total" in text, text


async def encrypted_js(server: Homeserver, person: Person, bots: Bots) -> None:
    client = await Session.register("js", server, "jane")
    bot = person.bot("friendly-assistant")
    room = await client.do("create_room")
    await client.do("invite", room=room, user=bot)
    await client.do("sees_member", room=room, user=bot, membership="join")
    seen = set()
    for words in ("a secret", "and another"):
        await client.do("say", room=room, body=words)
        deadline = time.monotonic() + 60
        while True:
            page = await client.ask(f"/rooms/{room}/messages?dir=b&limit=50")
            new = [event["event_id"] for event in page["chunk"][::-1]
                   if event["sender"] == bot and event["type"] == "m.room.encrypted" and event["event_id"] not in seen]
            # The first one says that it can read along.
            if len(new) > (0 if seen else 1):
                break
            assert time.monotonic() < deadline, f"no answer to {words}"
            await asyncio.sleep(0.3)
        seen.update(new)
        await client.do("reads", room=room, event=new[-1], body=f"You said: {words}")
    await client.do("cross_sign")
    emoji = await client.do("request_verification_in_room", room=room, user=bot)
    # Whoever runs the bots tells people what stands there.
    shown = [line for line in bots.log().splitlines() if "these are its emoji" in line]
    assert shown and all(symbol in shown[-1] for symbol in emoji), (emoji, shown)
    await client.do("confirm")
    await client.do("sees_user_verified", user=bot)
    await client.end()


async def encrypted(server: Homeserver, person: Person, bots: Bots, provider: Provider, store: Path) -> None:
    store.mkdir()
    config = AsyncClientConfig(encryption_enabled=True, store_sync_tokens=True)
    client = AsyncClient(server.base_url, "nina", store_path=str(store), config=config)
    await client.register("nina", PASSWORD, "nio")
    client.load_store()
    said: list[tuple[str, str]] = []
    unread: list[MegolmEvent] = []
    client.add_event_callback(lambda _, event: said.append((event.sender, event.body)), (RoomMessageText, RoomMessageNotice))
    client.add_event_callback(lambda _, event: unread.append(event), MegolmEvent)
    bot = person.bot("friendly-assistant")

    async def sync(timeout: int) -> None:
        await client.sync(timeout=timeout)
        if client.should_upload_keys:
            await client.keys_upload()
        if client.should_query_keys:
            await client.keys_query()
        await client.send_to_device_messages()

    await sync(0)
    encryption = {"type": "m.room.encryption", "state_key": "", "content": {"algorithm": "m.megolm.v1.aes-sha2"}}
    room = (await client.room_create(is_direct=True, invite=[bot], initial_state=[encryption])).room_id
    deadline = time.monotonic() + 60

    async def until(what: str, condition) -> None:
        while not condition():
            assert time.monotonic() < deadline, f"never saw {what}; said: {said}, unread: {unread}"
            await sync(1000)

    await until("the bot", lambda: room in client.rooms and bot in client.rooms[room].users)
    await until("the welcome", lambda: any(sender == bot and "encrypted" in body for sender, body in said))
    for words in ("a secret", "and another"):
        await client.room_send(room, "m.room.message", {"msgtype": "m.text", "body": words}, ignore_unverified_devices=True)
        await until("the answer", lambda: (bot, f"You said: {words}") in said)
    devices = await person.call("POST", "/keys/query", {"device_keys": {bot: []}})
    assert devices["master_keys"][bot] and len(devices["device_keys"][bot]) == 1, devices
    device = next(iter(devices["device_keys"][bot].values()))
    assert len(device["signatures"][bot]) == 2, "the device is not cross-signed"
    await eventually("the keys in the backup", lambda: has_backup(person, bots, bot))
    bots.stop()
    (bots.folder / "data" / "devices" / "friendly-assistant").unlink()
    bots.start()
    await eventually("another device", lambda: has_other_device(person, bot, device["device_id"]))
    deadline = time.monotonic() + 60
    await until("the other device", lambda: any(known.id != device["device_id"] for known in client.device_store.active_user_devices(bot)))
    words = "what was it"
    await client.room_send(room, "m.room.message", {"msgtype": "m.text", "body": words}, ignore_unverified_devices=True)
    await until("the answer of the other device", lambda: (bot, f"You said: {words}") in said)
    assert "a secret" in provider.told[-1], provider.told[-1]
    await client.close()


async def has_backup(person: Person, bots: Bots, bot: str):
    as_token = re.search("as_token: ['\"]?([^'\"\\s]+)", bots.registration.read_text()).group(1)
    url = f"{person.server.base_url}/_matrix/client/v3/room_keys/version"
    headers = {"Authorization": f"Bearer {as_token}"}
    async with person.session.get(url, params={"user_id": bot}, headers=headers) as response:
        version = await response.json()
    return True if version.get("count", 0) > 0 else version


async def has_other_device(person: Person, bot: str, before: str):
    devices = (await person.call("POST", "/keys/query", {"device_keys": {bot: []}}))["device_keys"].get(bot, {})
    new = [device for device_id, device in devices.items() if device_id != before]
    return True if new and len(new[0]["signatures"][bot]) == 2 else devices


async def scenario(server: Homeserver, bots: Bots, provider: Provider, folder: Path) -> None:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as session:
        person = await Person(server, "pia", session).register()
        await eventually("the bots", lambda: has_profile(person))
        await direct_chat(person)
        print("  direct chat and commands: passed", flush=True)
        await group(person)
        print("  group with two bots, and a nudge: passed", flush=True)
        await failures(person, provider)
        print("  a provider that fails, and one that is slow: passed", flush=True)
        await restart(person, provider, bots)
        print("  restart in the middle of an answer: passed", flush=True)
        await reread(person, bots)
        print("  a configuration that is read again, and metrics: passed", flush=True)
        await encrypted(server, person, bots, provider, folder / "nio")
        print("  encrypted direct chat with matrix-nio, and a lost device: passed", flush=True)
        if "INTEROP_AGENT_JS" in os.environ:
            await encrypted_js(server, person, bots)
            print("  encrypted direct chat with matrix-js-sdk, and verification by emoji: passed", flush=True)


async def has_profile(person: Person):
    for name in BOTS:
        await person.call("GET", f"/profile/{person.bot(name)}/avatar_url")
    return True


def main(kind: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        server = {"synapse": Synapse, "nudge": Nudge}[kind](folder / "server", CertificateAuthority(folder))
        provider = Provider()
        bots = Bots(folder / "bots", server, provider)
        server.add_service(bots.registration)
        server.start()
        bots.start()
        try:
            asyncio.run(scenario(server, bots, provider, folder))
        except BaseException:
            print(bots.log_tail())
            print(server.log_tail())
            raise
        finally:
            bots.stop()
            server.stop()
    print(f"nudge-aibots beside {kind}: passed")


if __name__ == "__main__":
    main(sys.argv[1])
