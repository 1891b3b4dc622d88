"""Runs a command while our binary serves: `with_nudge.py <command>...`. It finds NUDGE_BASE_URL and NUDGE_SERVER_NAME."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from homeservers import CertificateAuthority, Nudge


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        server = Nudge(Path(folder) / "nudge", CertificateAuthority(Path(folder)))
        server.start()
        place = {"NUDGE_BASE_URL": server.base_url, "NUDGE_SERVER_NAME": server.name}
        try:
            status = subprocess.run(sys.argv[1:], env={**os.environ, **place}, check=False).returncode
        finally:
            server.stop()
        if status:
            print(server.log_tail())
        return status


if __name__ == "__main__":
    sys.exit(main())
