"""Our binary in a network namespace, asked through every door that makes it call somebody: no packet may leave for an
address that is not public, however it is written, whatever a name resolves to, and wherever somebody redirects to.

That the doors and the counter work is shown in the same run: through each door a public address is called, which lies on
the other side of the namespace, and every address that must not be called is seen by the counter when this script calls it.

Needs root and `ip`; where there can be no namespaces it says so and ends with 3.
"""

import concurrent.futures
import http.client
import itertools
import json
import os
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.parse
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from egress_outside import (ALLOWED, NAMESERVER, PUBLIC, Namespace, PacketCounter, connect, hexed, lead, missing,
                            serve_outside)
from homeservers import openssl

CLIENT_PORT, FEDERATION_PORT = 8008, 18448
NAME = "nudge.public.test"
START_DEADLINE_S, ANSWER_DEADLINE_S = 90, 120
# How long something that was begun in the background may take to show on the wire. What goes wrong shows within
# milliseconds; a longer wait finds nothing more, and what comes late is counted for the door after.
SETTLE_S = 0.2
# For how long who looks for a neighbour goes on looking.
NEIGHBOUR_S = 5
SEEN_DEADLINE_S = 60

# One of each range of catalogue S-087 and of the registries of special addresses.
FORBIDDEN = [
    "127.0.0.1", "127.8.9.10", "10.1.2.3", "172.16.0.1", "172.31.255.254", "192.168.1.1", "169.254.169.254", "169.254.1.1",
    "100.64.0.1", "192.0.0.8", "192.0.2.1", "198.18.0.1", "198.51.100.7", "203.0.113.7", "224.0.0.1", "240.0.0.1",
    "255.255.255.255", "0.0.0.0", "::", "::1", "fe80::1", "fc00::1", "fd00:ec2::254", "fec0::1", "::ffff:10.1.2.3",
    "::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::a01:203", "2002:a01:203::1", "::10.1.2.3", "2001:db8::1",
    "ff02::1",
]
# The same machine in other words, as a browser reads them.
ODD_HOSTS = ["2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "127.1", "127.0.0.1.", "localhost", "localhost.",
             "0", "0xa9fea9fe", "[::ffff:7f00:1]", "[0:0:0:0:0:ffff:a9fe:a9fe]", "127。0。0。1"]
# Of each family, for what needs a name and a door for each.
FEW = ["10.1.2.3", "127.0.0.1", "169.254.169.254", "fd00:ec2::254", "::ffff:10.1.2.3"]
PAGE = "/"


def written(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def names_of(address: str) -> list[str]:
    return [f"{kind}-{hexed(address)}.names.test" for kind in ("a", "mixed", "cname", "rebind")]


def hosts() -> list[str]:
    """All that must not be called, as a URL or the name of a server has it."""
    return [*map(written, FORBIDDEN), *(f"a-{hexed(address)}.names.test" for address in FORBIDDEN),
            *(name for address in FEW for name in names_of(address)[1:])]


@dataclass
class Answer:
    status: int
    body: dict


class Client:
    """Calls of a user, from within the namespace."""

    def __init__(self, token: str | None = None, user_id: str = "") -> None:
        self.token, self.user_id = token, user_id

    def call(self, method: str, path: str, body: dict | None = None, **query: str) -> Answer:
        path = f"/_matrix/{path}" + (f"?{urllib.parse.urlencode(query)}" if query else "")
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        return send(http.client.HTTPConnection("127.0.0.1", CLIENT_PORT, timeout=ANSWER_DEADLINE_S), method, path, body,
                    headers)

    def register(self, name: str) -> "Client":
        body = {"username": name, "password": "only for this run", "auth": {"type": "m.login.dummy"}}
        answer = self.call("POST", "client/v3/register", body)
        assert answer.status == 200, answer
        return Client(answer.body["access_token"], answer.body["user_id"])


def send(connection: http.client.HTTPConnection, method: str, path: str, body: dict | None, headers: dict) -> Answer:
    try:
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        content = answer.read()
    finally:
        connection.close()
    try:
        return Answer(answer.status, json.loads(content or b"{}"))
    except ValueError:
        return Answer(answer.status, {})


def as_peer(origin: str, path: str) -> Answer:
    """A call of a server that is not known, so that its keys are asked for."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    header = f'X-Matrix origin="{origin}",destination="{NAME}",key="ed25519:a",sig="{"A" * 86}"'
    connection = http.client.HTTPSConnection("127.0.0.1", FEDERATION_PORT, timeout=ANSWER_DEADLINE_S, context=context)
    return send(connection, "GET", path, None, {"Authorization": header})


def public(kind: str = "plain", number=itertools.count()) -> str:
    """A name that leads to the outside; a new one each time, for who did not answer is not asked again soon."""
    return f"{kind}{next(number)}.public.test"


class Doors:
    """What makes the server call somebody. Each takes whom, and returns what it answers."""

    def __init__(self, user: Client, room_id: str, identity_servers: list[str]) -> None:
        self.user, self.room_id, self.identity_servers = user, urllib.parse.quote(room_id), identity_servers
        self.number = itertools.count()

    def servers(self) -> dict:
        """Those that are given the name of a server."""
        user, call = self.user, self.user.call
        quoted = lambda text: urllib.parse.quote(text, safe="")
        return {
            "profile": lambda host: call("GET", f"client/v3/profile/{quoted(f'@nobody:{host}')}"),
            "media": lambda host: call("GET", f"client/v1/media/download/{quoted(host)}/abcdef"),
            "thumbnail": lambda host: call("GET", f"client/v1/media/thumbnail/{quoted(host)}/ghi", width="32", height="32"),
            "alias": lambda host: call("GET", f"client/v3/directory/room/{quoted(f'#a:{host}')}"),
            "directory": lambda host: call("GET", "client/v3/publicRooms", server=host),
            "join": lambda host: call("POST", "client/v3/join/!gone:elsewhere.names.test", {}, server_name=host, via=host),
            "knock": lambda host: call("POST", "client/v3/knock/!gone:elsewhere.names.test", {}, server_name=host, via=host),
            "summary": lambda host: call("GET", "client/v1/room_summary/!gone:elsewhere.names.test", via=host),
            "invite": lambda host: call("POST", f"client/v3/rooms/{self.room_id}/invite", {"user_id": f"@nobody:{host}"}),
            "keys/query": lambda host: call(
                "POST", "client/v3/keys/query", {"timeout": 10000, "device_keys": {f"@nobody:{host}": []}}),
            "keys/claim": lambda host: call(
                "POST", "client/v3/keys/claim",
                {"timeout": 10000, "one_time_keys": {f"@nobody:{host}": {"D": "signed_curve25519"}}}),
            "to-device": lambda host: call(
                "PUT", f"client/v3/sendToDevice/m.test/{next(self.number)}",
                {"messages": {f"@nobody:{host}": {"D": {"a": "b"}}}}),
            "keys of a peer": lambda host: as_peer(host, "/_matrix/federation/v1/query/profile?user_id=@a:b"),
            "notary": lambda host: Client().call(
                "POST", "key/v2/query", {"server_keys": {host: {"ed25519:a": {"minimum_valid_until_ts": 1}}}}),
            "notary by name": lambda host: Client().call("GET", f"key/v2/query/{quoted(host)}"),
        }

    def identity(self, host: str) -> Answer:
        return self.user.call("POST", f"client/v3/rooms/{self.room_id}/invite", {
            "medium": "email", "address": "somebody@example.org", "id_server": host, "id_access_token": "token"})

    def delegation(self, kind: str, host: str) -> Answer:
        """A public server that says that it is to be found elsewhere."""
        name = f"{kind}-{hexed(host)}.public.test"
        return self.user.call("GET", f"client/v3/profile/{urllib.parse.quote(f'@nobody:{name}')}")

    def redirected_call(self, host: str) -> Answer:
        return self.user.call("GET", f"client/v3/profile/{urllib.parse.quote(f'@nobody:redirect-{hexed(host)}.public.test')}")

    def preview(self, url: str) -> Answer:
        return self.user.call("GET", "client/v1/media/preview_url", url=url)

    def media_elsewhere(self, url: str) -> Answer:
        return self.user.call("GET", f"client/v1/media/download/{public()}/{lead(url)}")


class Run:
    """Asks, and looks at what left."""

    def __init__(self, outside: PacketCounter, loopback: PacketCounter) -> None:
        self.counters, self.asked, self.failures = (outside, loopback), 0, []
        self.askers = concurrent.futures.ThreadPoolExecutor(16)

    def packets(self) -> list[tuple]:
        return [packet for counter in self.counters for packet in counter.take()]

    def leaks(self, packets: list[tuple]) -> Counter:
        return Counter(f"{kind} to {written(target)}:{port}" for target, kind, _, port in packets if target not in ALLOWED)

    def refused(self, door: str, ask, targets) -> None:
        """None of these may be called."""
        targets = list(targets)
        self.asked += len(targets)
        statuses = Counter(answer.status for answer in self.askers.map(ask, targets))
        time.sleep(SETTLE_S)
        leaks = self.leaks(self.packets())
        print(f"  {door}: {len(targets)} asked for, {sum(leaks.values())} packets; answers {dict(sorted(statuses.items()))}")
        if leaks:
            self.failures.append(f"{door}: packets left: {dict(leaks)}")
        if 429 in statuses:
            self.failures.append(f"{door}: some were refused for being too many, so that nothing is shown")

    def called(self, door: str, ask, targets, ports: set[int]) -> None:
        """Each of these must be called, at one of these ports."""
        for target in targets:
            self.packets()
            ask(target)
            deadline = time.monotonic() + SEEN_DEADLINE_S
            seen = set()
            while not seen & ports and time.monotonic() < deadline:
                time.sleep(0.02)
                seen |= {port for address, kind, _, port in self.packets() if kind == "tcp" and address in ALLOWED}
            if not seen & ports:
                self.failures.append(f"{door}: {target} was not called, so that nothing is shown by what is not")


def ask_everything(run: Run, doors: Doors, users: list[Client]) -> None:
    everywhere = hosts()
    for door, ask in doors.servers().items():
        run.called(door, ask, [public(), f"{public()}:8448"], {443, 8448})
        run.called(door, ask, [written(PUBLIC)] if door in ("profile", "media") else [], {8448})
        run.refused(door, ask, everywhere)
        run.refused(f"{door}, with a port", ask, (f"{host}:4443" for host in everywhere))

    run.called("identity server", doors.identity, doors.identity_servers[:1], {443})
    run.refused("identity server", doors.identity, doors.identity_servers[1:])

    for kind in ("wellknown", "wellknownredirect"):
        run.called(kind, lambda host, kind=kind: doors.delegation(kind, host), [f"{public()}:4443"], {4443})
        run.refused(kind, lambda host, kind=kind: doors.delegation(kind, host), (f"{host}:4443" for host in everywhere))
        run.refused(f"{kind}, no port", lambda host, kind=kind: doors.delegation(kind, host), everywhere)
    run.called("SRV", lambda host: doors.delegation("srv", host), [PUBLIC], {4443})
    run.refused("SRV", lambda host: doors.delegation("srv", host), FORBIDDEN)
    run.refused("redirect of a signed call", doors.redirected_call, everywhere)
    ask_for_pages(run, doors, everywhere)
    call_gateways(run, users, everywhere)


def ask_for_pages(run: Run, doors: Doors, everywhere: list[str]) -> None:
    """Pages, what they name, and files that other servers say to lie elsewhere."""
    page = lambda kind, url, scheme="http": f"{scheme}://{public()}/{kind}/{lead(url)}"
    ways = {
        "preview": lambda url: doors.preview(url),
        "image of a page": lambda url: doors.preview(page("image", url)),
        "oEmbed of a page": lambda url: doors.preview(page("oembed", url)),
        **{f"redirect {status} of a page": lambda url, status=status: doors.preview(page(f"go/{status}", url))
           for status in (301, 302, 303, 307, 308)},
        "image behind a redirect": lambda url: doors.preview(page("image", page("go/302", url))),
        "media elsewhere": lambda url: doors.media_elsewhere(url),
        "media elsewhere behind a redirect": lambda url: doors.media_elsewhere(page("go/302", url, "https")),
    }
    # Files lie elsewhere only with TLS.
    with_tls = {"media elsewhere", "media elsewhere behind a redirect"}
    for door, ask in ways.items():
        scheme, port = ("https", 443) if door in with_tls else ("http", 80)
        run.called(door, ask, [f"{scheme}://{public()}{PAGE}", f"{scheme}://{written(PUBLIC)}{PAGE}"], {port})
        run.refused(door, ask, (f"http://{host}{PAGE}" for host in [*everywhere, *ODD_HOSTS]))
        run.refused(f"{door}, TLS", ask, (f"https://{host}{PAGE}" for host in [*everywhere, *ODD_HOSTS]))
        run.refused(f"{door}, other protocols", ask, (
            f"{scheme}://{rest}" for scheme in ("file", "ftp", "gopher", "dict", "ws") for rest in ("10.1.2.3/", "/etc/passwd")))
    # A second and third time, when the name leads elsewhere.
    for _ in range(3):
        run.refused("preview after rebinding", lambda name: doors.preview(f"http://{name}/again-{next(doors.number)}"),
                    [f"rebind-{hexed(address)}.names.test" for address in FEW])


def call_gateways(run: Run, users: list[Client], everywhere: list[str]) -> None:
    """Push gateways that users set. Each message is told to all of them, more than once."""
    writer, *readers = users
    room = writer.call("POST", "client/v3/createRoom", {"preset": "public_chat"}).body["room_id"]
    for reader in readers:
        assert reader.call("POST", f"client/v3/join/{urllib.parse.quote(room)}", {}).status == 200

    def set_pusher(reader: Client, url: str) -> Answer:
        return reader.call("POST", "client/v3/pushers/set", {
            "kind": "http", "app_id": "test", "pushkey": url, "app_display_name": "a", "device_display_name": "b",
            "lang": "en", "data": {"url": url}})

    gateways = [f"https://{host}{port}/_matrix/push/v1/notify" for port in ("", ":4443")
                for host in [*everywhere, *ODD_HOSTS, *(f"redirect-{hexed(host)}.public.test" for host in map(written, FEW))]]
    share = -(-len(gateways) // len(readers))
    for reader, start in zip(readers, range(0, len(gateways), share)):
        run.refused("setting push gateways", lambda url, reader=reader: set_pusher(reader, url), gateways[start:start + share])
    known = sum(len(reader.call("GET", "client/v3/pushers").body["pushers"]) for reader in readers)
    say = lambda text: writer.call("PUT", f"client/v3/rooms/{urllib.parse.quote(room)}/send/m.room.message/{text}",
                                   {"msgtype": "m.text", "body": text})
    run.refused(f"{known} push gateways", say, ["first", "second"])
    assert known, "all gateways were refused when they were set"
    # Failed gateways try again after five seconds: the names have moved on by then.
    time.sleep(8)
    run.refused(f"{known} push gateways, again", say, ["third"])
    gateway = f"https://{public('gateway')}:4443/_matrix/push/v1/notify"
    assert set_pusher(readers[0], gateway).status == 200
    run.called("push gateway", say, ["fourth"], {4443})


def check_counter(run: Run) -> None:
    """Every address is seen when somebody does call it."""
    for address in FORBIDDEN:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as caller:
            caller.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            scope = socket.if_nametoindex("in0") if address.startswith(("fe80", "ff02")) else 0
            run.packets()
            try:
                caller.sendto(b"seen?", (address, 9, 0, scope) if ":" in address else (address, 9))
            except OSError as error:
                print(f"  {address} cannot be called on this machine by anybody: {error.strerror}")
                continue
        deadline = time.monotonic() + SEEN_DEADLINE_S
        while not (seen := run.leaks(run.packets())) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert seen, f"a packet to {address} was not counted"
    time.sleep(NEIGHBOUR_S)
    run.packets()


def certificates(folder: Path) -> dict[str, Path]:
    """An authority, and a certificate for all names and addresses of the outside."""
    paths = {name: folder / name for name in ("ca.crt", "ca.key", "outside.crt", "outside.key", "request", "extension")}
    paths["extension"].write_text(
        f"subjectAltName=DNS:*.public.test,DNS:*.names.test,DNS:{NAME},IP:{PUBLIC}\nbasicConstraints=CA:FALSE\n")
    new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    openssl("req", "-x509", *new_key, "-keyout", paths["ca.key"], "-out", paths["ca.crt"], "-subj", "/CN=egress", "-days", "2")
    openssl("req", *new_key, "-keyout", paths["outside.key"], "-out", paths["request"], "-subj", "/CN=outside")
    openssl("x509", "-req", "-in", paths["request"], "-CA", paths["ca.crt"], "-CAkey", paths["ca.key"], "-CAcreateserial",
            "-days", "2", "-extfile", paths["extension"], "-out", paths["outside.crt"])
    return paths


def configuration(folder: Path, paths: dict[str, Path], identity_servers: list[str]) -> Path:
    file = folder / "nudge.toml"
    file.write_text(f"""
server_name = "{NAME}"
data_dir = "{folder}/data"
listen = "127.0.0.1:{CLIENT_PORT}"

[registration]
mode = "open"

[rate_limits]
enabled = false

[accounts]
password_hashing = "cheap"
identity_servers = {json.dumps(identity_servers)}

[media]
preview_allow = ["*:*"]

[federation]
listen = "127.0.0.1:{FEDERATION_PORT}"
certificate_file = "{paths['outside.crt']}"
private_key_file = "{paths['outside.key']}"
extra_certificate_authorities = ["{paths['ca.crt']}"]
""")
    return file


def start(inside: Namespace, folder: Path, settings: Path) -> subprocess.Popen:
    # In its namespace by `ip`, which also gives it the name server of the outside.
    command = ["ip", "netns", "exec", inside.name, os.environ["NUDGE_BINARY"], "serve", "--config", str(settings)]
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
    deadline = time.monotonic() + START_DEADLINE_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            Client().call("GET", "client/versions")
            return process
        except OSError:
            time.sleep(0.1)
    process.kill()
    sys.exit("the server does not answer:\n" + (folder / "log").read_text(errors="replace")[-4000:])


def test(folder: Path, inside: Namespace, outside: Namespace) -> list[str]:
    connect(inside, outside)
    inside.use_nameserver(NAMESERVER)
    paths = certificates(folder)
    identity_servers = [public(), *hosts()]
    outside.enter()
    wire = PacketCounter("out0")
    serve_outside(paths["outside.crt"], paths["outside.key"])
    inside.enter()
    run = Run(wire, PacketCounter("lo", {CLIENT_PORT, FEDERATION_PORT}))
    check_counter(run)
    ALLOWED.update(inside.own_addresses() | outside.own_addresses())
    process = start(inside, folder, configuration(folder, paths, identity_servers))
    try:
        users = [Client().register(f"user{number}") for number in range(5)]
        room = users[0].call("POST", "client/v3/createRoom", {"preset": "public_chat"}).body["room_id"]
        ask_everything(run, Doors(users[0], room, identity_servers), users)
        assert process.poll() is None, "the server ended"
    finally:
        process.terminate()
        process.wait(30)
    print(f"{run.asked} times something was asked for that must not be called")
    return run.failures


def main() -> None:
    begun = time.monotonic()
    reason = missing()
    if reason:
        print(f"egress: NOT RUN: {reason}")
        sys.exit(3)
    made = []
    with tempfile.TemporaryDirectory() as folder:
        try:
            for side in ("in", "out"):
                made.append(Namespace(f"nudge-{side}-{os.getpid()}"))
            failures = test(Path(folder), *made)
        except subprocess.CalledProcessError as error:
            if "ip" not in error.cmd[0] or not error.stderr:
                raise
            print(f"egress: NOT RUN: `{' '.join(error.cmd)}` says: {error.stderr.strip()}")
            sys.exit(3)
        finally:
            for namespace in made:
                namespace.remove()
    for failure in failures:
        print(f"FAILED {failure}")
    if failures:
        sys.exit(1)
    print(f"no packet to what is not public: passed after {time.monotonic() - begun:.0f} s")


if __name__ == "__main__":
    main()
