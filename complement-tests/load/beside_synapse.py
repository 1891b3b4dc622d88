"""Runs a command while Synapse serves, from the same environment: `beside_synapse.py <command>...`. The command finds where
in LOAD_BESIDE_URL, and which process it is in LOAD_BESIDE_PID."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "interop"))
from homeservers import CertificateAuthority, Synapse  # noqa: E402


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        server = Synapse(Path(folder) / "synapse", CertificateAuthority(Path(folder)))
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
