"""The outside of a network namespace: name server, web server and packet counter, and names that lead where a test wants.

A name that holds a place (`a-HEX.names.test`) holds it in hexadecimal, so that both ends need no table of names.
"""

import ctypes
import http.server
import json
import os
import socket
import ssl
import struct
import subprocess
import threading
from collections import Counter
from pathlib import Path

GATEWAY, INSIDE, PUBLIC, NAMESERVER = "45.45.45.1", "45.45.45.2", "45.45.45.45", "45.45.45.53"
GATEWAY_6, INSIDE_6, PUBLIC_6 = "2a0a:a0a::1", "2a0a:a0a::2", "2a0a:a0a::45"
ALLOWED = {PUBLIC, NAMESERVER, PUBLIC_6, GATEWAY, GATEWAY_6, INSIDE, INSIDE_6}
# Where pages, redirects and files of the web server lead to, by number.
PLACES: list[str] = []
WEB_PORTS = {80: False, 443: True, 4443: True, 8080: False, 8448: True}
A, CNAME, AAAA, SRV = 1, 5, 28, 33
CLONE_NEWNET = 0x40000000
ALL_PROTOCOLS = 3
# Router and neighbour discovery, and who listens to what: said by an interface, not because somebody asked.
CHATTER = {133, 134, 136, 137, 143}
NEIGHBOUR_SOLICITATION = 135


def hexed(place: str) -> str:
    """A place as labels of a name."""
    text = place.encode().hex()
    return ".".join(text[start:start + 60] for start in range(0, len(text), 60))


def lead(place: str) -> str:
    """The number of a place that the web server leads to."""
    PLACES.append(place)
    return str(len(PLACES) - 1)


def place_in(name: str) -> str:
    """The place that stands in a name, between its kind and its domain."""
    return bytes.fromhex("".join(name.split("-", 1)[1].split(".")[:-2])).decode()


class Namespace:
    """A network namespace with a name, until it is removed."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.resolver = Path("/etc/netns") / name
        subprocess.run(["ip", "netns", "add", name], check=True, capture_output=True, text=True)
        self.ip("link", "set", "lo", "up")

    def ip(self, *arguments: str) -> None:
        subprocess.run(["ip", "-netns", self.name, *arguments], check=True, capture_output=True, text=True)

    def own_addresses(self) -> set[str]:
        """Those that its interfaces have given themselves, and ask each other for."""
        shown = subprocess.run(["ip", "-netns", self.name, "-json", "-6", "address"], check=True, capture_output=True)
        return {address["local"] for link in json.loads(shown.stdout) for address in link["addr_info"]
                if link["ifname"] != "lo"}

    def enter(self) -> None:
        """Moves this thread, and those that it starts from now on."""
        with Path("/run/netns", self.name).open("rb") as handle:
            if ctypes.CDLL(None, use_errno=True).setns(handle.fileno(), CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), f"cannot enter the namespace {self.name}")

    def use_nameserver(self, address: str) -> None:
        """For what `ip netns exec` starts."""
        self.resolver.mkdir(parents=True)
        (self.resolver / "resolv.conf").write_text(f"nameserver {address}\noptions timeout:1 attempts:1\n")

    def remove(self) -> None:
        subprocess.run(["ip", "netns", "delete", self.name], check=False, capture_output=True)
        for file in self.resolver.glob("*"):
            file.unlink()
        if self.resolver.is_dir():
            self.resolver.rmdir()


def connect(inside: Namespace, outside: Namespace) -> None:
    """Joins both by a pair of interfaces. Whatever is not known inside goes out, where nobody passes it on."""
    pair = ["link", "add", "in0", "type", "veth", "peer", "name", "out0", "netns", outside.name]
    inside.ip(*pair)
    for namespace, interface, addresses in [
        (inside, "in0", [f"{INSIDE}/24", f"{INSIDE_6}/64"]),
        (outside, "out0", [f"{GATEWAY}/24", f"{PUBLIC}/24", f"{NAMESERVER}/24", f"{GATEWAY_6}/64", f"{PUBLIC_6}/64"]),
    ]:
        for address in addresses:
            late = ["nodad"] if ":" in address else []
            namespace.ip("address", "add", address, "dev", interface, *late)
        namespace.ip("link", "set", interface, "up")
    inside.ip("route", "add", "default", "via", GATEWAY)
    inside.ip("-6", "route", "add", "default", "via", GATEWAY_6)


class PacketCounter:
    """Every packet that passes an interface of the namespace that the thread is in when this is made."""

    def __init__(self, interface: str, own_ports: set[int] = frozenset()) -> None:
        self.interface, self.own_ports, self.packets, self.lock = interface, own_ports, [], threading.Lock()
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.ntohs(ALL_PROTOCOLS))
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 24)
        self.socket.bind((interface, 0))
        threading.Thread(target=self.count, daemon=True).start()

    def count(self) -> None:
        while True:
            frame, origin = self.socket.recvfrom(2048)
            # What goes over loopback is seen when it leaves, and again when it arrives.
            if self.interface == "lo" and origin[2] == socket.PACKET_OUTGOING:
                continue
            packet = read_packet(frame)
            if packet and not self.own_ports & {packet[2], packet[3]}:
                with self.lock:
                    self.packets.append(packet)

    def take(self) -> list[tuple]:
        with self.lock:
            taken, self.packets = self.packets, []
        return taken


def read_packet(frame: bytes) -> tuple | None:
    """To where, what, and both ports; nothing, if it is what an interface says by itself."""
    kind, packet = int.from_bytes(frame[12:14]), frame[14:]
    if kind == 0x0800:
        header_length = (packet[0] & 15) * 4
        target, protocol, content = socket.inet_ntop(socket.AF_INET, packet[16:20]), packet[9], packet[header_length:]
    elif kind == 0x86DD:
        target, protocol, content = socket.inet_ntop(socket.AF_INET6, packet[24:40]), packet[6], packet[40:]
        if protocol == 0:  # hop by hop
            protocol, content = content[0], content[(content[1] + 1) * 8:]
        if protocol == socket.IPPROTO_ICMPV6 and content[0] == NEIGHBOUR_SOLICITATION:
            # Who looks for a neighbour is about to send it something.
            target = socket.inet_ntop(socket.AF_INET6, content[8:24])
        elif protocol == socket.IPPROTO_ICMPV6 and content[0] in CHATTER:
            return None
    elif kind == 0x0806:
        return socket.inet_ntop(socket.AF_INET, packet[24:28]), "arp", 0, 0
    else:
        return None
    if protocol in (socket.IPPROTO_TCP, socket.IPPROTO_UDP):
        return target, {6: "tcp", 17: "udp"}[protocol], *struct.unpack("!HH", content[:4])
    return target, f"protocol {protocol}", 0, 0


class NameServer:
    """Answers for `public.test`, which is the outside, and for `names.test`, where names lead to what they hold."""

    def __init__(self) -> None:
        self.asked: Counter = Counter()
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((NAMESERVER, 53))
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self) -> None:
        while True:
            question, asker = self.socket.recvfrom(4096)
            try:
                self.socket.sendto(self.answer(question), asker)
            except (OSError, ValueError, IndexError) as error:
                print(f"name server: {error!r}")

    def answer(self, question: bytes) -> bytes:
        labels, at = [], 12
        while length := question[at]:
            labels.append(question[at + 1:at + 1 + length].decode())
            at += length + 1
        name, (kind,) = ".".join(labels).lower(), struct.unpack("!H", question[at + 1:at + 3])
        known, records = self.records(name, kind)
        flags = 0x8180 if known else 0x8183
        head = question[:2] + struct.pack("!HHHHH", flags, 1, len(records), 0, 0) + question[12:at + 5]
        return head + b"".join(written(record_kind, data) for record_kind, data in records)

    def records(self, name: str, kind: int) -> tuple[bool, list[tuple[int, bytes]]]:
        service, _, rest = name.partition("._tcp.")
        if rest:
            leads = service == "_matrix-fed" and rest.startswith("srv-")
            target = f"a-{hexed(place_in(rest))}.names.test" if leads else ""
            records = [(SRV, struct.pack("!HHH", 10, 0, 4443) + name_bytes(target))] if leads and kind == SRV else []
            return leads, records
        if name == "public.test" or name.endswith(".public.test"):
            return True, addresses([PUBLIC, PUBLIC_6], kind)
        if not name.endswith(".names.test"):
            return False, []
        place = place_in(name)
        if name.startswith("a-"):
            return True, addresses([place], kind)
        public = PUBLIC_6 if ":" in place else PUBLIC
        if name.startswith("mixed-"):
            return True, addresses([place, public], kind)
        if name.startswith("cname-"):
            target = f"a-{hexed(place)}.names.test"
            return True, [(CNAME, name_bytes(target))] + [
                (record, data) for record, data in addresses([place], kind, owner=target)]
        if name.startswith("rebind-"):
            # Public to whoever asks for the first time, and private ever after.
            self.asked[name, kind] += 1
            return True, addresses([public if self.asked[name, kind] == 1 else place], kind)
        return False, []


def name_bytes(name: str) -> bytes:
    return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".") if label) + b"\0"


def addresses(places: list[str], kind: int, owner: str = "") -> list[tuple[int, bytes]]:
    record = lambda data: (kind, data) if not owner else (kind, (owner, data))
    if kind == A:
        return [record(socket.inet_aton(place)) for place in places if ":" not in place]
    if kind == AAAA:
        return [record(socket.inet_pton(socket.AF_INET6, place)) for place in places if ":" in place]
    return []


def written(kind: int, data) -> bytes:
    """A record of the name that was asked about, or of another, for no time at all."""
    owner, data = (name_bytes(data[0]), data[1]) if isinstance(data, tuple) else (b"\xc0\x0c", data)
    return owner + struct.pack("!HHIH", kind, 1, 0, len(data)) + data


class Web(http.server.BaseHTTPRequestHandler):
    """A server of the outside that leads on to wherever its name or path says."""

    protocol_version = "HTTP/1.0"

    def do_GET(self) -> None:
        host, path = (self.headers.get("Host") or "").lower().rsplit(":", 1)[0], self.path.split("?")[0]
        length = int(self.headers.get("Content-Length") or 0)
        self.rfile.read(length)
        kind = host.split("-")[0] if host.endswith(".public.test") and "-" in host else ""
        if path == "/.well-known/matrix/server" and kind == "wellknown":
            return self.reply(200, "application/json", json.dumps({"m.server": place_in(host)}))
        if path == "/.well-known/matrix/server" and kind == "wellknownredirect":
            return self.redirect(302, f"https://{place_in(host)}/.well-known/matrix/server")
        if kind == "redirect" and path.startswith("/_matrix/"):
            return self.redirect(307, f"https://{place_in(host)}{self.path}")
        if path.startswith("/_matrix/federation/v1/media/download/"):
            return self.media(PLACES[int(path.rsplit("/", 1)[1])])
        if path.startswith("/_matrix/push/"):
            return self.reply(200, "application/json", '{"rejected":[]}')
        return self.page(path)

    do_POST = do_PUT = do_GET

    def page(self, path: str) -> None:
        parts = path.strip("/").split("/")
        if len(parts) < 2 or parts[0] not in ("image", "oembed", "go"):
            return self.reply(404, "application/json", '{"errcode":"M_NOT_FOUND","error":"not here"}')
        place = PLACES[int(parts[-1])]
        if parts[0] == "go":
            return self.redirect(int(parts[1]), place)
        tag = f'<meta property="og:image" content="{place}">'
        if parts[0] == "oembed":
            tag = f'<link rel="alternate" type="application/json+oembed" href="{place}">'
        return self.reply(200, "text/html", f"<html><head><title>A page</title>{tag}</head></html>")

    def media(self, place: str) -> None:
        self.reply(200, "multipart/mixed; boundary=edge",
                   "--edge\r\nContent-Type: application/json\r\n\r\n{}\r\n"
                   f"--edge\r\nLocation: {place}\r\n\r\n\r\n--edge--\r\n")

    def redirect(self, status: int, place: str) -> None:
        self.send_response(status)
        self.send_header("Location", place)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def reply(self, status: int, content_type: str, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_) -> None:
        pass


class WebServer(http.server.ThreadingHTTPServer):
    request_queue_size = 256
    daemon_threads = True

    def __init__(self, address: str, port: int, context: ssl.SSLContext | None) -> None:
        self.address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
        super().__init__((address, port), Web)
        self.context = context
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def finish_request(self, request, client_address) -> None:
        # In the thread of the connection, so that one who is slow to shake hands keeps nobody else waiting.
        if self.context:
            request.settimeout(10)
            request = self.context.wrap_socket(request, server_side=True)
        super().finish_request(request, client_address)

    def handle_error(self, request, client_address) -> None:
        pass


def serve_outside(certificate: Path, key: Path) -> NameServer:
    """Name server and web servers of the namespace that the thread is in."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    for address in (PUBLIC, PUBLIC_6):
        for port, with_tls in WEB_PORTS.items():
            WebServer(address, port, context if with_tls else None)
    return NameServer()


def missing() -> str | None:
    """Why there can be no namespaces here."""
    if os.geteuid() != 0:
        return "namespaces need root"
    if not any(Path(folder, "ip").exists() for folder in os.environ["PATH"].split(":") + ["/usr/sbin", "/sbin"]):
        return "there is no `ip`: apt install iproute2"
    return None
