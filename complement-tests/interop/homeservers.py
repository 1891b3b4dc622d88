"""Homeservers as child processes: ours and Synapse, with real TLS by a certificate authority made for the run."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

START_DEADLINE_S = 90


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class CertificateAuthority:
    """Signs one certificate for the name `localhost`, which all servers of the run share."""

    def __init__(self, folder: Path) -> None:
        self.ca = folder / "ca.crt"
        self.certificate = folder / "localhost.crt"
        self.key = folder / "localhost.key"
        ca_key, request, extension = folder / "ca.key", folder / "localhost.csr", folder / "extension"
        extension.write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\nbasicConstraints=CA:FALSE\n")
        new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        openssl("req", "-x509", *new_key, "-keyout", ca_key, "-out", self.ca, "-subj", "/CN=interop", "-days", "2")
        openssl("req", *new_key, "-keyout", self.key, "-out", request, "-subj", "/CN=localhost")
        openssl("x509", "-req", "-in", request, "-CA", self.ca, "-CAkey", ca_key, "-CAcreateserial", "-days", "2",
                "-extfile", extension, "-out", self.certificate)


def openssl(*arguments) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


class Gate:
    """The port at which a server is known to others: what comes in is passed on, until it is shut."""

    def __init__(self, port: int) -> None:
        self.port, self.is_open, self.lines = port, True, set()
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.public_port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        while True:
            try:
                guest, _ = self.listener.accept()
            except OSError:
                return
            if not self.is_open:
                guest.close()
                continue
            try:
                host = socket.create_connection(("127.0.0.1", self.port))
            except OSError:
                guest.close()
                continue
            self.lines |= {guest, host}
            for source, target in ((guest, host), (host, guest)):
                threading.Thread(target=self.carry, args=(source, target), daemon=True).start()

    def carry(self, source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                target.sendall(data)
        except OSError:
            pass
        for end in (source, target):
            self.lines.discard(end)
            end.close()

    def shut(self) -> None:
        self.is_open = False
        for line in list(self.lines):
            try:
                line.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def open(self) -> None:
        self.is_open = True


class Homeserver:
    """A child process that serves clients at `base_url` and, by TLS, other servers at its name. The two servers of a run
    have different host names, for access control lists look at these alone."""

    host = "localhost"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.client_port, self.federation_port = free_port(), free_port()
        self.gate = Gate(self.federation_port)
        self.name = f"{self.host}:{self.gate.public_port}"
        self.base_url = f"http://127.0.0.1:{self.client_port}"
        self.process: subprocess.Popen | None = None
        folder.mkdir(parents=True)

    def command(self) -> list[str]:
        raise NotImplementedError

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(self.command(), cwd=self.folder, stdout=log, stderr=log)
        deadline = time.monotonic() + START_DEADLINE_S
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                sys.exit(f"{self.name} ended at its start:\n{self.log_tail()}")
            try:
                urllib.request.urlopen(f"{self.base_url}/_matrix/client/versions", timeout=2).read()
                return
            except OSError:
                time.sleep(0.1)
        sys.exit(f"{self.name} does not answer:\n{self.log_tail()}")

    def stop(self) -> None:
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def log_tail(self) -> str:
        return "\n".join((self.folder / "log").read_text(errors="replace").splitlines()[-40:])


class Nudge(Homeserver):
    def __init__(self, folder: Path, authority: CertificateAuthority) -> None:
        super().__init__(folder)
        (folder / "nudge.toml").write_text(f"""
server_name = "{self.name}"
data_dir = "{folder}/data"
listen = "127.0.0.1:{self.client_port}"

[registration]
mode = "open"

[rate_limits]
enabled = false

[rooms]
directory_for_servers = true

[accounts]
password_hashing = "cheap"

[federation]
listen = "127.0.0.1:{self.federation_port}"
certificate_file = "{authority.certificate}"
private_key_file = "{authority.key}"
extra_certificate_authorities = ["{authority.ca}"]
allow_private_addresses = ["127.0.0.0/8", "::1/128"]
""")

    def add_service(self, registration: Path) -> None:
        """Before the start: an application service, by the file of its registration."""
        with (self.folder / "nudge.toml").open("a") as configuration:
            configuration.write(f'\n[application_services]\nregistrations = ["{registration}"]\n')

    def command(self) -> list[str]:
        return [os.environ["NUDGE_BINARY"], "serve", "--config", str(self.folder / "nudge.toml")]


class Synapse(Homeserver):
    host = "127.0.0.1"

    def __init__(self, folder: Path, authority: CertificateAuthority) -> None:
        super().__init__(folder)
        limit = "{ per_second: 100000, burst_count: 100000 }"
        (folder / "log.yaml").write_text("""
version: 1
formatters: { f: { format: '%(asctime)s %(name)s %(levelname)s %(message)s' } }
handlers: { h: { class: logging.StreamHandler, formatter: f } }
root: { level: INFO, handlers: [h] }
""")
        (folder / "homeserver.yaml").write_text(f"""
server_name: "{self.name}"
report_stats: false
pid_file: {folder}/pid
signing_key_path: {folder}/signing.key
media_store_path: {folder}/media
log_config: {folder}/log.yaml
database: {{ name: sqlite3, args: {{ database: {folder}/homeserver.db }} }}
tls_certificate_path: {authority.certificate}
tls_private_key_path: {authority.key}
listeners:
  - {{ port: {self.client_port}, bind_addresses: ['127.0.0.1'], tls: false, type: http, resources: [ {{ names: [client] }} ] }}
  - {{ port: {self.federation_port}, bind_addresses: ['127.0.0.1', '::1'], tls: true, type: http, resources: [ {{ names: [federation] }} ] }}
federation_custom_ca_list: [ {authority.ca} ]
ip_range_blacklist: []
federation_ip_range_blacklist: []
trusted_key_servers: []
suppress_key_server_warning: true
enable_registration: true
allow_public_rooms_over_federation: true
allow_public_rooms_without_auth: true
enable_registration_without_verification: true
macaroon_secret_key: only-for-this-run
registration_shared_secret: only-for-this-run
bcrypt_rounds: 4
federation: {{ destination_min_retry_interval: 1s, destination_max_retry_interval: 2s, destination_retry_multiplier: 1 }}
rc_message: {limit}
rc_registration: {limit}
rc_login: {{ address: {limit}, account: {limit}, failed_attempts: {limit} }}
rc_joins: {{ local: {limit}, remote: {limit} }}
rc_joins_per_room: {limit}
rc_invites: {{ per_room: {limit}, per_user: {limit}, per_issuer: {limit} }}
rc_room_creation: {limit}
rc_presence: {{ per_user: {limit} }}
caches: {{ sync_response_cache_duration: 0s }}
room_list_publication_rules: [{{ action: allow }}]
""")
        generate = [*self.command(), "--generate-keys"]
        subprocess.run(generate, cwd=folder, check=True, capture_output=True)

    def add_service(self, registration: Path) -> None:
        """Before the start: an application service, by the file of its registration."""
        with (self.folder / "homeserver.yaml").open("a") as configuration:
            configuration.write(f"app_service_config_files: [ {registration} ]\n")

    def command(self) -> list[str]:
        return [sys.executable, "-m", "synapse.app.homeserver", "-c", str(self.folder / "homeserver.yaml")]
