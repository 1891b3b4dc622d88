"""Our binary and a mail server that others made (aiosmtpd), with STARTTLS and a password: registering with an address, a
forgotten password, an address that is added, and letters about what is not read.

Letters about unread messages come after ten minutes: for these the server is started again eleven minutes later, by the
clock that libfaketime shows it. Where that is not installed, the rest runs, and the end is 3."""

import asyncio
import email
import email.policy
import logging
import os
import re
import ssl
import sys
import tempfile
import time
import urllib.parse
from email.message import EmailMessage
from pathlib import Path

import aiohttp
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword

from conversation import DEADLINE_S, User
from homeservers import CertificateAuthority, Nudge, free_port

MAIL_USER, MAIL_PASSWORD = b"nudge", b"only for this run"
SECRET, PASSWORD, NEW_PASSWORD = "a_client_secret", "correct horse", "battery staple 9"
CLOCKS = ["/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1", "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1"]
BASE_URL = "https://matrix.example.org"


class Mailboxes:
    """What the mail server has taken."""

    def __init__(self) -> None:
        self.letters: list[tuple[str, EmailMessage, bool]] = []

    async def handle_RCPT(self, _server, _session, envelope, address: str, _options) -> str:
        if address.startswith("nobody@"):
            return "550 no such mailbox"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server, session, envelope) -> str:
        letter = email.message_from_bytes(envelope.content, policy=email.policy.default)
        for address in envelope.rcpt_tos:
            self.letters.append((address, letter, bool(session.ssl and session.authenticated)))
        return "250 taken"

    async def next_for(self, address: str) -> EmailMessage:
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline:
            for index, (to, letter, was_safe) in enumerate(self.letters):
                if to == address:
                    assert was_safe, "a letter came without TLS or without the password"
                    del self.letters[index]
                    return letter
            await asyncio.sleep(0.05)
        raise AssertionError(f"no letter for {address}; there are {[to for to, *_ in self.letters]}")


def check_password(_server, _session, _envelope, _mechanism, data: LoginPassword) -> AuthResult:
    return AuthResult(success=(data.login, data.password) == (MAIL_USER, MAIL_PASSWORD))


def mail_server(authority: CertificateAuthority, mailboxes: Mailboxes, port: int) -> Controller:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.certificate, authority.key)
    return Controller(mailboxes, hostname="127.0.0.1", port=port, tls_context=context, require_starttls=True,
                      authenticator=check_password, auth_required=True)


def text_of(letter: EmailMessage) -> str:
    return letter.get_body(("plain",)).get_content()


def link_in(letter: EmailMessage, page: str) -> str:
    """The path of a link in a letter, at the address of the server as users have it."""
    found = re.search(re.escape(BASE_URL) + rf"(/_nudge/client/v1/{page}\?\S+)", text_of(letter))
    assert found, text_of(letter)
    return found[1]


async def follow(server: Nudge, session: aiohttp.ClientSession, path: str) -> None:
    """As a browser does: it shows the page, and sends the form that is on it."""
    async with session.get(server.base_url + path) as answer:
        page = await answer.text()
        assert answer.status == 200 and "<form" in page, (answer.status, page)
    address, _, query = path.partition("?")
    async with session.post(server.base_url + address, data=dict(urllib.parse.parse_qsl(query))) as answer:
        assert answer.status == 200, (answer.status, await answer.text())


async def show_address(user: User, mailboxes: Mailboxes, kind: str, address: str, attempt: int = 1) -> dict:
    """Asks for a letter and follows its link: credentials that show that the address is one's own."""
    asked = await user.call("POST", f"/{kind}/email/requestToken",
                            {"client_secret": SECRET, "email": address, "send_attempt": attempt})
    letter = await mailboxes.next_for(address)
    assert letter["From"] == "Nudge <nudge@example.org>" and letter["Subject"], letter
    await follow(user.server, user.session, link_in(letter, "validate_address"))
    return {"sid": asked["sid"], "client_secret": SECRET}


def by_password(user: User, password: str) -> dict:
    identifier = {"type": "m.id.user", "user": user.name}
    return {"type": "m.login.password", "identifier": identifier, "password": password}


async def register_with_address(user: User, mailboxes: Mailboxes, address: str) -> None:
    body = {"username": user.name, "password": PASSWORD}
    session = (await user.call("POST", "/register", body, expect=401))["session"]
    shown = {"type": "m.login.email.identity", "session": session}
    wrong = {**shown, "threepid_creds": {"sid": "none", "client_secret": SECRET}}
    await user.call("POST", "/register", {**body, "auth": wrong}, expect=401)
    credentials = await show_address(user, mailboxes, "register", address)
    auth = {**shown, "threepid_creds": credentials}
    user.token = (await user.call("POST", "/register", {**body, "auth": auth}))["access_token"]
    known = (await user.call("GET", "/account/3pid"))["threepids"]
    assert [(each["medium"], each["address"]) for each in known] == [("email", address)], known


async def forget_password(user: User, mailboxes: Mailboxes, address: str) -> None:
    credentials = await show_address(user, mailboxes, "account/password", address, 2)
    body = {"new_password": NEW_PASSWORD, "logout_devices": False}
    session = (await User(user.server, user.name, user.session).call("POST", "/account/password", body, 401))["session"]
    auth = {"type": "m.login.email.identity", "session": session, "threepid_creds": credentials}
    await User(user.server, user.name, user.session).call("POST", "/account/password", {**body, "auth": auth})
    await user.call("POST", "/login", by_password(user, PASSWORD), expect=403)
    await user.call("POST", "/login", by_password(user, NEW_PASSWORD))


async def add_address(user: User, mailboxes: Mailboxes, address: str) -> None:
    credentials = await show_address(user, mailboxes, "account/3pid", address)
    auth = by_password(user, NEW_PASSWORD)
    await user.call("POST", "/account/3pid/add", {**credentials, "auth": auth})
    await user.call("POST", "/account/3pid/email/requestToken",
                    {"client_secret": SECRET, "email": "nobody@mail.example", "send_attempt": 1}, expect=502)


async def set_pusher(user: User, address: str) -> None:
    await user.call("POST", "/pushers/set", {
        "kind": "email", "app_id": "m.email", "pushkey": address, "app_display_name": "Letters",
        "device_display_name": address, "lang": "en", "data": {}})


async def talk(server: Nudge, session: aiohttp.ClientSession, mailboxes: Mailboxes) -> tuple[User, User]:
    """Up to messages of which a letter is to tell."""
    reader, writer = (User(server, name, session) for name in ("reader", "writer"))
    await register_with_address(reader, mailboxes, "reader@mail.example")
    await register_with_address(writer, mailboxes, "writer@mail.example")
    await forget_password(reader, mailboxes, "reader@mail.example")
    await add_address(reader, mailboxes, "second@mail.example")
    await set_pusher(reader, "second@mail.example")
    room = await writer.create_room(name="The kitchen")
    await reader.join(room, server.name)
    await writer.say(room, "the soup is ready")
    await writer.say(room, "and so is the tea")
    return reader, writer


async def read_letter(server: Nudge, session: aiohttp.ClientSession, mailboxes: Mailboxes, reader: User) -> None:
    letter = await mailboxes.next_for("second@mail.example")
    text = text_of(letter)
    assert "the soup is ready" in text and "and so is the tea" in text and "The kitchen" in text, text
    assert letter["List-Unsubscribe"].strip("<>").startswith(BASE_URL), letter["List-Unsubscribe"]
    assert len((await reader.call("GET", "/pushers"))["pushers"]) == 1
    await follow(server, session, link_in(letter, "unsubscribe"))
    assert (await reader.call("GET", "/pushers"))["pushers"] == []


async def use(server: Nudge, mailboxes: Mailboxes, clock: str | None) -> None:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=DEADLINE_S)) as session:
        reader, _ = await talk(server, session, mailboxes)
        assert not mailboxes.letters, "letters for what was not asked for"
        if clock:
            server.stop()
            os.environ.update(LD_PRELOAD=clock, FAKETIME="+11m", FAKETIME_DONT_FAKE_MONOTONIC="1", NO_FAKE_STAT="1")
            server.start()
            await read_letter(server, session, mailboxes, reader)


def configure(server: Nudge, port: int) -> None:
    settings = server.folder / "nudge.toml"
    settings.write_text(settings.read_text().replace("[registration]", "[registration]\nrequire_email = true") + f"""
[mail]
host = "localhost"
port = {port}
security = "starttls"
user = "{MAIL_USER.decode()}"
password = "{MAIL_PASSWORD.decode()}"
from = "Nudge <nudge@example.org>"

[well_known]
client_base_url = "{BASE_URL}"
""")


def main() -> None:
    # It warns of its own ways at each letter.
    logging.getLogger("mail.log").setLevel(logging.ERROR)
    clock = next((path for path in CLOCKS if Path(path).exists()), None)
    with tempfile.TemporaryDirectory() as folder:
        authority = CertificateAuthority(Path(folder))
        server, mailboxes, port = Nudge(Path(folder) / "nudge", authority), Mailboxes(), free_port()
        configure(server, port)
        # The mail server is trusted as those of the internet are.
        os.environ["SSL_CERT_FILE"] = str(authority.ca)
        controller = mail_server(authority, mailboxes, port)
        controller.start()
        try:
            server.start()
            asyncio.run(use(server, mailboxes, clock))
        except BaseException:
            print(server.log_tail())
            raise
        finally:
            server.stop()
            controller.stop()
    if not clock:
        print("mail: letters about unread messages NOT RUN: there is no libfaketime: apt install faketime")
        sys.exit(3)
    print("letters by a mail server: passed")


if __name__ == "__main__":
    main()
