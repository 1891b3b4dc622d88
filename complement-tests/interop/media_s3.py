"""Our binary with its files in object storage: moto, which speaks the protocol of S3, on loopback."""

import asyncio
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import aiohttp
import boto3

from conversation import DEADLINE_S, User
from homeservers import CertificateAuthority, Nudge, free_port
from media_synapse import Files, picture

BUCKET = "files"
LARGE = os.urandom(1024) * (17 * 1024)


class ObjectStorage:
    """A bucket that is gone when this ends."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        environment = {**os.environ, "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "a-long-secret-1234"}
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]
        self.process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.request("PUT", f"/{BUCKET}")

    def request(self, method: str, path: str) -> bytes:
        deadline = time.monotonic() + DEADLINE_S
        while True:
            try:
                return urllib.request.urlopen(urllib.request.Request(self.url + path, method=method), timeout=5).read()
            except urllib.error.HTTPError:
                raise
            except OSError:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    raise
                time.sleep(0.2)

    def objects(self) -> int:
        return self.request("GET", f"/{BUCKET}?list-type=2").count(b"<Key>")

    def lose_one(self) -> None:
        client = boto3.client("s3", endpoint_url=self.url, region_name="us-east-1", aws_access_key_id="key",
                              aws_secret_access_key="a-long-secret-1234")
        client.delete_object(Bucket=BUCKET, Key=client.list_objects_v2(Bucket=BUCKET)["Contents"][0]["Key"])

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(30)


async def use(server: Nudge, storage: ObjectStorage) -> None:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=DEADLINE_S)) as session:
        user = await User(server, "nora", session).register()
        files = Files(user)
        places = {}
        for name, content in {"small": b"a few bytes", "empty": b"", "large": LARGE, "image": picture(400, 300)}.items():
            places[name] = (await files.upload(name, "application/octet-stream", content), content)
        await files.upload("again", "text/plain", b"a few bytes")
        assert storage.objects() == 4, f"the same content twice: {storage.objects()} objects"
        status, _, small = await files.get("thumbnail", places["image"][0], width=96, height=96, method="crop")
        assert status == 200 and small.startswith(b"\x89PNG"), (status, small[:100])
        assert storage.objects() == 5

        server.stop()
        server.start()
        for name, (place, content) in places.items():
            status, _, received = await files.get("download", place)
            assert (status, received == content) == (200, True), (name, status, len(received))
        url = f"{server.base_url}/_matrix/client/v1/media/download/{places['large'][0]}"
        headers = {**files.headers, "Range": "bytes=8000000-8000099"}
        async with session.get(url, headers=headers) as answer:
            assert answer.status == 206 and await answer.read() == LARGE[8_000_000:8_000_100]
    left = [path for path in (server.folder / "data" / "media").rglob("*") if path.is_file()]
    assert not left, f"files beside the bucket: {left}"
    server.stop()
    command = [os.environ["NUDGE_BINARY"], "fsck", "--config", str(server.folder / "nudge.toml")]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    storage.lose_one()
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 1 and "is missing" in checked.stdout, checked.stdout + checked.stderr


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        storage = ObjectStorage()
        server = Nudge(Path(folder) / "nudge", CertificateAuthority(Path(folder)))
        with (server.folder / "nudge.toml").open("a") as settings:
            settings.write(f"""
[media]
s3_bucket = "{BUCKET}"
s3_endpoint = "{storage.url}"
s3_access_key = "key"
s3_secret_key = "a-long-secret-1234"
""")
        try:
            server.start()
            asyncio.run(use(server, storage))
        except BaseException:
            print(server.log_tail())
            raise
        finally:
            server.stop()
            storage.stop()
    print("files in object storage: passed")


if __name__ == "__main__":
    main()
