"""Runs a command while Synapse serves, from the same environment: `beside_synapse.py <command>...`. The command finds where
in LOAD_BESIDE_URL, and which process it is in LOAD_BESIDE_PID."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

REPOSITORY = Path(__file__).resolve().parent.parent.parent
CERTIFICATES = REPOSITORY / "homeserver/server/tests/it/certificates"
sys.path.insert(0, str(REPOSITORY / "complement-tests/interop"))
from homeservers import Synapse  # noqa: E402

# That of the other servers which the command starts.
AUTHORITY = SimpleNamespace(
    ca=CERTIFICATES / "authority.pem",
    certificate=CERTIFICATES / "localhost.pem",
    key=CERTIFICATES / "localhost.key.pem",
)


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        server = Synapse(Path(folder) / "synapse", AUTHORITY)
        server.start()
        place = {
            "LOAD_BESIDE_URL": server.base_url,
            "LOAD_BESIDE_PID": str(server.process.pid),
            "LOAD_BESIDE_NAME": "Synapse, SQLite",
        }
        try:
            return subprocess.run(sys.argv[1:], env={**os.environ, **place}, check=False).returncode
        finally:
            server.stop()


if __name__ == "__main__":
    sys.exit(main())
