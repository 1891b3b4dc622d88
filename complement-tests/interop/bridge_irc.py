"""heisenbridge between our homeserver and ngircd: what is said on one side is heard on the other, and again
after a restart of the bridge. HEISENBRIDGE and NGIRCD name the programs."""

import asyncio
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import aiohttp

from conversation import User, eventually
from homeservers import CertificateAuthority, Nudge, free_port

CHANNEL = "#tea"


class IrcUser:
    """Somebody who is on IRC only."""

    async def connect(self, port: int, nick: str) -> "IrcUser":
        self.heard: list[str] = []
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", port)
        self.send(f"NICK {nick}", f"USER {nick} 0 * :{nick}")
        self.task = asyncio.create_task(self.listen())
        await self.hears(" 001 ")
        return self

    def send(self, *lines: str) -> None:
        self.writer.write("".join(f"{line}\r\n" for line in lines).encode())

    async def listen(self) -> None:
        while line := (await self.reader.readline()).decode(errors="replace").strip():
            if line.startswith("PING"):
                self.send(line.replace("PING", "PONG", 1))
            self.heard.append(line)

    async def hears(self, text: str) -> None:
        async def check():
            return any(text in line for line in self.heard) or self.heard[-5:]

        await eventually(f"on IRC: {text!r}", check)


def start(command: list[str], folder: Path) -> subprocess.Popen:
    with (folder / "programs.log").open("ab") as log:
        return subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)


def start_ngircd(folder: Path, port: int) -> subprocess.Popen:
    configuration = folder / "ngircd.conf"
    configuration.write_text(
        f"[Global]\nName = irc.interop.test\nInfo = interop\nListen = 127.0.0.1\nPorts = {port}\n"
        "[Limits]\nMaxConnectionsIP = 0\n[Options]\nIdent = no\nPAM = no\nDNS = no\n"
    )
    return start([os.environ["NGIRCD"], "--nodaemon", "--config", str(configuration)], folder)


class Bridge:
    def __init__(self, folder: Path, server: Nudge) -> None:
        self.folder, self.registration, self.process = folder, folder / "heisenbridge.yaml", None
        self.command = [os.environ["HEISENBRIDGE"], "--config", str(self.registration)]
        where = ["--listen-address", "127.0.0.1", "--listen-port", str(free_port())]
        subprocess.run([*self.command, *where, "--generate"], check=True, capture_output=True)
        self.command += ["-v", server.base_url]

    def start(self) -> None:
        self.process = start(self.command, self.folder)

    def stop(self) -> None:
        if self.process:
            self.process.terminate()
            self.process.wait(30)
            self.process = None


async def invited_to_network(user: User) -> set[str]:
    """The rooms of the network that the user is invited to: a bridge that starts slowly invites to a room of its own too,
    which has no name."""
    invitations = (await user.call("GET", "/sync?timeout=0"))["rooms"].get("invite", {})

    def name(invitation: dict) -> str:
        events = invitation["invite_state"]["events"]
        return next((event["content"].get("name", "") for event in events if event["type"] == "m.room.name"), "")

    return {room for room, invitation in invitations.items() if "local" in name(invitation)}


async def joins_invitation(user: User, known: set[str]) -> str:
    """Waits for the next invitation and accepts it."""

    async def check():
        return bool(await invited_to_network(user) - known)

    await eventually("an invitation by the bridge", check)
    room = (await invited_to_network(user) - known).pop()
    await user.call("POST", f"/rooms/{room}/join", {})
    return room


async def reads_part(user: User, room: str, text: str) -> None:
    async def check():
        bodies = await user.history(room)
        return any(body and text in body for body in bodies) or bodies[-5:]

    await eventually(f"in the room: {text!r}", check)


async def scenes(server: Nudge, bridge: Bridge, irc_port: int) -> None:
    async with aiohttp.ClientSession() as session:
        alice = await User(server, "alice", session).register()
        bot = User(server, "heisenbridge", session)
        control = await alice.create_room(preset="private_chat", is_direct=True, invite=[bot.user_id])

        async def bot_is_there():
            return (await alice.members(control)).get(bot.user_id) == "join" or await alice.members(control)

        await eventually("the bridge joins", bot_is_there)
        await alice.say(control, "ADDNETWORK local")
        await reads_part(alice, control, "local")
        await alice.say(control, f"ADDSERVER local 127.0.0.1 {irc_port}")
        await alice.say(control, "OPEN local")
        network = await joins_invitation(alice, set())
        await alice.say(network, "NICK alice")
        await alice.say(network, "CONNECT")
        await reads_part(alice, network, "Connecting to")
        bob = await IrcUser().connect(irc_port, "bob")
        bob.send(f"JOIN {CHANNEL}")
        await bob.hears(f"JOIN :{CHANNEL}")
        await alice.say(network, f"JOIN {CHANNEL}")
        channel = await joins_invitation(alice, set())
        await bob.hears("alice")
        await alice.say(channel, "from Matrix to IRC")
        await bob.hears(f"PRIVMSG {CHANNEL} :from Matrix to IRC")
        print("ok: from Matrix to IRC", flush=True)
        bob.send(f"PRIVMSG {CHANNEL} :from IRC to Matrix")
        await reads_part(alice, channel, "from IRC to Matrix")
        senders = await alice.call("GET", f"/rooms/{channel}/messages?dir=b&limit=5")
        spoke = {event["sender"] for event in senders["chunk"] if event["content"].get("body") == "from IRC to Matrix"}
        assert spoke == {f"@irc_local_bob:{server.name}"}, spoke
        print("ok: from IRC to Matrix, by a user of the bridge", flush=True)

        # It drops what comes before it is on IRC again, so nothing is said until then.
        bridge.stop()
        bob.heard.clear()
        bridge.start()
        await bob.hears(f"JOIN :{CHANNEL}")
        await alice.say(channel, "after a restart of the bridge")
        await bob.hears(f"PRIVMSG {CHANNEL} :after a restart of the bridge")
        print("ok: after a restart of the bridge", flush=True)
        bob.task.cancel()
        bob.writer.close()


def main() -> int:
    with tempfile.TemporaryDirectory() as name:
        folder, irc_port = Path(name), free_port()
        server = Nudge(folder / "nudge", CertificateAuthority(folder))
        bridge = Bridge(folder, server)
        server.add_service(bridge.registration)
        irc = start_ngircd(folder, irc_port)
        try:
            server.start()
            bridge.start()
            asyncio.run(scenes(server, bridge, irc_port))
        except BaseException:
            print((folder / "programs.log").read_text()[-6000:], server.log_tail(), sep="\n", file=sys.stderr)
            raise
        finally:
            bridge.stop()
            server.stop()
            irc.terminate()
            irc.wait(10)
    print("the IRC bridge: all scenes passed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
