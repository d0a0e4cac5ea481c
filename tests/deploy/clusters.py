"""A Ray head of our own for a test: random ports, its own token and home, and an end that touches no other Ray."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import ray.util

from tests.patience import seconds, until

BIN = Path(sys.executable).parent
HOST = "127.0.0.1"
SMALL = """
name: small
source: {kind: tinytown, limit: 4, size: 64, first_seed: 500}
regions: {kind: source}
corruption: {inference_steps: 10, inversion_steps: 3, batch_size: 2}
verify: {baseline: autoencoder, on_failure: keep}
output: {samples_per_shard: 2}
"""
"""A recipe for a cluster, but for its pools."""


@dataclass(frozen=True)
class Head:
    """A running head.

    Attributes:
        address: of the cluster, for `ray.init` and `--address`.
        jobs: the URL that jobs are submitted to.
        metrics: the port at which Prometheus finds the head.
        token: the file with the token.
        environment: what a program needs to be let in.
    """

    address: str
    jobs: str
    metrics: int
    token: Path
    environment: Mapping[str, str]


def stranger(home: Path) -> dict[str, str]:
    """An environment without a token."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return {
        **variables,
        "HOME": str(home),
        "RAY_USAGE_STATS_ENABLED": "0",
        "PATH": f"{BIN}:{os.environ['PATH']}",
    }


def here() -> str:
    """The address that Ray knows this machine by. It reads 127.0.0.1 as this one, and would not find the head there."""
    return str(ray.util.get_node_ip_address())


def ports(count: int) -> list[int]:
    """Free ports. They are free again when this returns, so another process may take one; that is rare."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind((HOST, 0))
        return [int(one.getsockname()[1]) for one in sockets]


@contextmanager
def head(
    folder: Path, *options: str, port: int | None = None, environment: Mapping[str, str] | None = None
) -> Iterator[Head]:
    """Starts `ray start --head` with token authentication, waits until it takes jobs, and ends it.

    Args:
        folder: for home, token and output of the process.
        options: more options of `ray start`.
        port: of the cluster; None chooses a free one.
        environment: more variables for Ray.
    """
    token = folder / "auth_token"
    token.write_text(secrets.token_hex(32))
    let_in = {**stranger(folder), "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
    jobs, agent, agent_grpc, client, metrics, runtime_env, *free = ports(7)
    port = port or free[0]
    # Ray puts Unix sockets below its temporary folder, and their paths may have 107 characters.
    temporary = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))
    command = [
        str(BIN / "ray"),
        "start",
        "--head",
        "--block",
        f"--node-ip-address={here()}",
        f"--port={port}",
        f"--dashboard-host={HOST}",
        f"--dashboard-port={jobs}",
        f"--dashboard-agent-listen-port={agent}",
        f"--dashboard-agent-grpc-port={agent_grpc}",
        f"--runtime-env-agent-port={runtime_env}",
        f"--ray-client-server-port={client}",
        f"--metrics-export-port={metrics}",
        f"--temp-dir={temporary}",
        "--object-store-memory=200000000",
        "--disable-usage-stats",
        *options,
    ]
    with (folder / "head.log").open("wb") as log:
        process = subprocess.Popen(
            command,
            env={**let_in, **(environment or {})},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        url = f"http://{HOST}:{jobs}"
        _wait(f"{url}/api/jobs/", token, process, folder / "head.log")
        # Jobs are started by the node's agent, which comes later.
        _wait(f"http://{here()}:{agent}/api/local_raylet_healthz", token, process, folder / "head.log")
        yield Head(f"{here()}:{port}", url, metrics, token, let_in)
    finally:
        _end(process)
        shutil.rmtree(temporary, ignore_errors=True)


def status(url: str, token: str | None = None) -> int:
    """The HTTP status of a request, 0 where nobody answers."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        with urllib.request.urlopen(
            urllib.request.Request(url, headers=headers), timeout=seconds(10)
        ) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def run(
    command: Sequence[str], environment: Mapping[str, str], cwd: Path
) -> subprocess.CompletedProcess[str]:
    """A command's exit code, and what it printed on either stream as `stdout`."""
    return subprocess.run(
        command,
        env=dict(environment),
        cwd=cwd,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=seconds(900),
    )


def _wait(url: str, token: Path, process: subprocess.Popen[bytes], log: Path) -> None:
    until(
        lambda: status(url, token.read_text()),
        lambda code: code == 200,
        within=120,
        every=0.5,
        unless=lambda: f"the head has ended: {log.read_text()}" if process.poll() is not None else "",
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kills the head and whatever it started, by their ids; no other Ray on this machine is touched."""
    started = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    process.kill()
    process.wait()
    # What has lost its parent is known by its session, which began with the head.
    orphans = [one for one in psutil.process_iter() if _session(one.pid) == process.pid]
    for one in [*started, *orphans]:
        with suppress(psutil.NoSuchProcess):
            one.kill()
    psutil.wait_procs([*started, *orphans], timeout=30)


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return None
