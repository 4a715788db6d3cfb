"""Docker for `sam local`: the one that runs, or a daemon and an image made by hand.

Where no Docker runs and this is root on Linux, dockerd is started without touching the machine's
network, and Lambda's image is made of Debian's packages (debootstrap) with awslambdaric.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tests.engines import CACHE, NotHereError, find_program, running
from tests.layers import scoring_layers

if TYPE_CHECKING:
    from collections.abc import Iterator

DEBIAN = "trixie"  # has Python 3.13
BOOTSTRAP = """#!/bin/sh
export PYTHONPATH=/var/task:/opt/python:/var/runtime
exec python3 -m awslambdaric "$_HANDLER"
"""
_OWN_NETWORK = ("--iptables=false", "--ip6tables=false", "--ip-masq=false", "--ip-forward=false")
_GATEWAY = "{{(index .IPAM.Config 0).Gateway}}"


class Docker(NamedTuple):
    """A daemon, and what `sam local` needs to be told of it."""

    variables: dict[str, str]
    options: tuple[str, ...]

    def gateway(self) -> str:
        """The address of this machine, seen from a container."""
        told = _docker(self.variables, "network", "inspect", "bridge", "-f", _GATEWAY)
        return told.stdout.decode().strip()


@contextmanager
def docker(image: str) -> Iterator[Docker]:
    """A Docker with the image that `sam local` wants, or that can fetch it.

    Raises:
        NotHereError: There is none, and none can be started.
    """
    if shutil.which("docker") and not _docker({}, "info", check=False).returncode:
        yield Docker({}, ())
        return
    with _daemon() as variables:
        if _docker(variables, "image", "inspect", image, check=False).returncode:
            _import_image(variables, image)
        yield Docker(variables, ("--skip-pull-image",))


@contextmanager
def _daemon() -> Iterator[dict[str, str]]:
    needed = "start Docker, or install docker.io, iptables and debootstrap and be root"
    find_program("docker", needed)
    dockerd = find_program("dockerd", f"no Docker runs: {needed}")
    if os.geteuid() != 0:
        msg = f"dockerd wants root; {needed}"
        raise NotHereError(msg)
    data = CACHE / "docker"
    data.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="docker-") as scratch:
        socket = f"unix://{scratch}/docker.sock"
        command = [
            *(dockerd, "--data-root", str(data), "--exec-root", f"{scratch}/exec", "-H", socket),
            *("--pidfile", f"{scratch}/pid", *_OWN_NETWORK),
        ]
        variables = {"DOCKER_HOST": socket}
        with running(
            command,
            Path(scratch),
            {},
            lambda: not _docker(variables, "info", check=False).returncode,
        ):
            yield variables


def _import_image(variables: dict[str, str], image: str) -> None:
    """An image in which RIE finds a bootstrap, as in Lambda's own."""
    debootstrap = find_program("debootstrap", "Lambda's image is made by it: install debootstrap")
    with tempfile.TemporaryDirectory(prefix="image-") as scratch:
        root = Path(scratch) / "root"
        packages = "--include=python3,ca-certificates"
        try:
            subprocess.run(
                [debootstrap, "--variant=minbase", packages, DEBIAN, str(root)],
                check=True,
                capture_output=True,
            )
        except subprocess.CalledProcessError as error:
            msg = f"debootstrap failed: {error.stdout.decode()[-300:]}; it needs a network"
            raise NotHereError(msg) from error
        runtime = root / "var" / "runtime"
        shutil.copytree(scoring_layers() / "image", runtime)
        (runtime / "bootstrap").write_text(BOOTSTRAP, encoding="utf-8")
        (runtime / "bootstrap").chmod(0o755)
        for folder in ("var/task", "opt"):
            (root / folder).mkdir(exist_ok=True)
        archive = Path(scratch) / "root.tar"
        subprocess.run(["tar", "-C", str(root), "-cf", str(archive), "."], check=True)
        changes = ("-c", "WORKDIR /var/task", "-c", "ENV LANG=C.UTF-8 LAMBDA_TASK_ROOT=/var/task")
        _docker(variables, "import", *changes, str(archive), image)


def _docker(
    variables: dict[str, str], *arguments: str, check: bool = True
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["docker", *arguments], check=check, capture_output=True, env={**os.environ, **variables}
    )
