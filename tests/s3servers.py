"""Real S3 servers on loopback: moto in a process of its own, and a one-machine Ceph cluster with its object gateway."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

SETTINGS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "CANARY0f3a9",
    "AWS_REGION": "us-east-1",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_ALLOW_HTTP": "true",
}
"""The environment that leads to a server, but for its address; Ceph has a user with these keys, moto takes any."""

PROGRAMS = ("ceph-mon", "ceph-osd", "radosgw", "ceph", "ceph-authtool", "monmaptool", "radosgw-admin")

CEPH_CONF = """[global]
fsid = {fsid}
mon host = v2:127.0.0.1:{mon}/0
mon initial members = a
public addr = 127.0.0.1
keyring = {folder}/keyring
run dir = {folder}
admin socket =
log file = {folder}/$name.log
mon data = {folder}/mon
osd data = {folder}/osd
osd objectstore = memstore
memstore device bytes = 2G
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pgp num = 4
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon max pg per osd = 1000
mon osd full ratio = 0.99
mon data avail crit = 0
rgw frontends = beast endpoint=127.0.0.1:{gate} tcp_nodelay=1
rgw enable apis = s3
rgw thread pool size = 64
"""


def free_port() -> int:
    """A port on loopback that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(port: int, process: subprocess.Popen[bytes], name: str, seconds: float = 60.0, log: Path | None = None) -> None:
    """Wait until a process listens; fail the test where it does not, with the end of its log."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    said = log.read_text(errors="replace")[-4000:] if log is not None and log.exists() else ""
    pytest.fail(f"{name} did not start within {seconds:g} s, or ended (code {process.poll()})\n{said}")


@contextmanager
def started(command: list[str], output: Path | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """A process that ends with the block."""
    with ExitStack() as stack:
        target = stack.enter_context(output.open("wb")) if output else subprocess.DEVNULL
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=target, stderr=target)
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def moto() -> Iterator[str]:
    """The address of a moto server."""
    pytest.importorskip("moto")
    port = free_port()
    with started([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]) as server:
        wait_for(port, server, "moto")
        yield f"http://127.0.0.1:{port}"


@contextmanager
def ceph() -> Iterator[str]:
    """The address of the object gateway of a Ceph cluster: one monitor, one OSD that keeps its objects in memory, one gateway."""
    if missing := [name for name in PROGRAMS if shutil.which(name) is None]:
        pytest.skip(f"{', '.join(missing)} not found: apt-get install --no-install-recommends ceph-mon ceph-osd radosgw ceph-common")
    with tempfile.TemporaryDirectory(prefix="cubekit-ceph-") as name, ExitStack() as stack:
        folder, fsid, mon, gate = Path(name), str(uuid.uuid4()), free_port(), free_port()
        conf = folder / "ceph.conf"
        conf.write_text(CEPH_CONF.format(fsid=fsid, folder=folder, mon=mon, gate=gate))

        def do(*command: str) -> str:
            done = subprocess.run([command[0], "-c", str(conf), *command[1:]], capture_output=True, text=True, timeout=120, check=False)
            assert done.returncode == 0, f"{' '.join(command)}: {done.stderr[-2000:]}"
            return done.stdout

        def daemon(*command: str) -> subprocess.Popen[bytes]:
            output = folder / f"{command[0]}.out"
            return stack.enter_context(started([command[0], "-c", str(conf), "-f", *command[1:]], output))

        keyring = str(folder / "keyring")
        do("ceph-authtool", "--create-keyring", keyring)
        for who in ("mon.", "client.admin", "osd.0"):
            caps = [word for service in ("mon", "osd", "mgr") for word in ("--cap", service, "allow *")]
            do("ceph-authtool", keyring, "--gen-key", "-n", who, *caps)
        do("monmaptool", "--create", "--addv", "a", f"[v2:127.0.0.1:{mon}]", "--fsid", fsid, str(folder / "monmap"))
        do("ceph-mon", "--mkfs", "-i", "a", "--monmap", str(folder / "monmap"), "--keyring", keyring)
        wait_for(mon, daemon("ceph-mon", "-i", "a"), "ceph-mon")
        osd = str(uuid.uuid4())
        assert do("ceph", "osd", "new", osd).strip() == "0"
        (folder / "osd").mkdir()
        do("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd)
        daemon("ceph-osd", "-i", "0")
        admin = ("radosgw-admin", "user", "create", "--uid=cubekit", "--display-name=cubekit")
        do(*admin, f"--access-key={SETTINGS['AWS_ACCESS_KEY_ID']}", f"--secret-key={SETTINGS['AWS_SECRET_ACCESS_KEY']}", "--max-buckets=0")
        wait_for(gate, daemon("radosgw", "-n", "client.admin"), "radosgw", 30.0, folder / "client.admin.log")
        yield f"http://127.0.0.1:{gate}"


SERVERS: dict[str, Callable[[], contextmanager[str]]] = {"moto": moto, "ceph": ceph}
"""By name; each is started at most once per test run."""


def new_bucket(endpoint: str) -> str:
    """URL of an empty bucket."""
    import boto3

    keys = {"aws_access_key_id": SETTINGS["AWS_ACCESS_KEY_ID"], "aws_secret_access_key": SETTINGS["AWS_SECRET_ACCESS_KEY"]}
    name = f"cubes-{uuid.uuid4().hex[:12]}"
    boto3.client("s3", endpoint_url=endpoint, region_name=SETTINGS["AWS_REGION"], **keys).create_bucket(Bucket=name)
    return f"s3://{name}"
