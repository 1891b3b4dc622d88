"""A user's client with as much of the client-server API as the conversations take, and how to wait for what is to come."""

import asyncio
import itertools

import aiohttp

from homeservers import Homeserver

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

    async def knock(self, room: str, via: str) -> None:
        await self.call("POST", f"/knock/{room}?server_name={via}&via={via}", {})

    async def set_state(self, room: str, event_type: str, content: dict, state_key: str = "") -> str:
        return (await self.call("PUT", f"/rooms/{room}/state/{event_type}/{state_key}", content))["event_id"]

    async def state(self, room: str) -> dict[tuple[str, str], str]:
        """The event that stands for each key of the room state."""
        answer = await self.call("GET", f"/rooms/{room}/state")
        return {(event["type"], event["state_key"]): event["event_id"] for event in answer}

    async def content(self, room: str, event_type: str, state_key: str = "") -> dict:
        return await self.call("GET", f"/rooms/{room}/state/{event_type}/{state_key}")

    async def ephemeral(self, room: str, event_type: str) -> dict:
        """What is said of a room without being kept: who types, who has read."""
        joined = (await self.call("GET", "/sync?timeout=0"))["rooms"].get("join", {}).get(room, {})
        events = joined.get("ephemeral", {}).get("events", [])
        return next((event["content"] for event in events if event["type"] == event_type), {})

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
