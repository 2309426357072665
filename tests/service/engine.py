"""A container engine for the test of docker-compose.yml, and stand-ins for the public base images.

The machine's registries hold Debian packages and wheels, not images. So the base images are made here: a small Debian
with Python, Mosquitto and all wheels that an installation needs, which then needs no network. The engine runs in a
network namespace of its own, where its bridges and filters disturb nobody.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
KEPT = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "tradebft-stand-in"
NEEDED = ("dockerd", "docker", "docker-compose", "debootstrap", "ip", "nsenter")
IMAGE = "tradebft-stand-in"
NAMESPACE = "tradebft"
BROKER_UID = 1883
PACKAGES = "python3,python3-venv,python3-pip,ca-certificates,mosquitto"


def missing() -> str:
    """Why no engine can run here; empty if one can."""
    if os.geteuid() != 0:
        return "an engine needs root"
    without = [name for name in NEEDED if shutil.which(name) is None]
    return f"not installed: {', '.join(without)}" if without else ""


class Engine:
    """``with Engine(folder) as engine:`` an engine that knows the stand-in image."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.socket = folder / "docker.sock"
        self._daemon: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Engine:
        archive = stand_in()
        subprocess.run(["ip", "netns", "delete", NAMESPACE], capture_output=True)
        run("ip", "netns", "add", NAMESPACE)
        run("ip", "-n", NAMESPACE, "link", "set", "lo", "up")
        log = open(self._folder / "dockerd.log", "wb")
        self._daemon = subprocess.Popen(
            [
                "nsenter", f"--net=/var/run/netns/{NAMESPACE}", "dockerd", "--data-root", self._folder / "data",
                "--exec-root", self._folder / "exec", "-H", f"unix://{self.socket}",
                "--pidfile", self._folder / "pid",
            ],
            stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
        log.close()
        deadline = time.monotonic() + 60
        while self.docker("version", check=False).returncode != 0:
            if self._daemon.poll() is not None or time.monotonic() > deadline:
                tail = (self._folder / "dockerd.log").read_text()[-1000:]
                self.__exit__()
                raise RuntimeError(f"no engine came up: {tail}")
            time.sleep(0.3)
        changes = ("ENV PIP_NO_INDEX=1", "ENV PIP_FIND_LINKS=/wheels")
        options = [word for change in changes for word in ("-c", change)]
        self.docker("import", *options, str(archive), IMAGE)
        return self

    def __exit__(self, *_: object) -> None:
        if self._daemon is not None:
            self._daemon.terminate()
            try:
                self._daemon.wait(60)
            except subprocess.TimeoutExpired:
                self._daemon.kill()
                self._daemon.wait()
        subprocess.run(["ip", "netns", "delete", NAMESPACE], capture_output=True)
        with contextlib.suppress(OSError):
            shutil.rmtree(self._folder / "data")

    def docker(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return run(
            "docker",
            *words,
            env={"DOCKER_HOST": f"unix://{self.socket}", "DOCKER_BUILDKIT": "0"},
            check=check,
        )

    def compose(self, *words: str, check: bool = True, **env: str) -> subprocess.CompletedProcess[str]:
        """`docker-compose` on the project's file, with the stand-in for every base image."""
        settings = {
            "DOCKER_HOST": f"unix://{self.socket}", "DOCKER_BUILDKIT": "0", "COMPOSE_DOCKER_CLI_BUILD": "0",
            "COMPOSE_PROJECT_NAME": "tradebft", "PYTHON_IMAGE": IMAGE, "MOSQUITTO_IMAGE": IMAGE,
            "BROKER_UID": str(BROKER_UID), **env,
        }  # fmt: skip
        return run("docker-compose", "--ansi", "never", *words, env=settings, check=check)


def stand_in() -> Path:
    """The archive of the stand-in image; made once, and again when what the project needs changes."""
    archive, stamp = KEPT / "image.tar", KEPT / "pyproject.toml"
    wanted = (ROOT / "pyproject.toml").read_bytes()
    if archive.exists() and stamp.exists() and stamp.read_bytes() == wanted:
        return archive
    root = KEPT / "root"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    run("debootstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", str(root), *_mirror())
    run("chroot", str(root), "usermod", "-u", str(BROKER_UID), "mosquitto")
    for unneeded in ("var/cache/apt", "usr/share/doc", "usr/share/locale", "var/lib/apt/lists"):
        shutil.rmtree(root / unneeded, ignore_errors=True)
    run(
        sys.executable,
        "-m",
        "pip",
        "download",
        "-q",
        "-d",
        str(root / "wheels"),
        "setuptools",
        "wheel",
        str(ROOT),
    )
    run("tar", "-C", str(root), "-cf", str(archive), ".")
    shutil.rmtree(root, ignore_errors=True)
    stamp.write_bytes(wanted)
    return archive


def _mirror() -> list[str]:
    """Where this machine takes its packages from, if not from Debian's own place."""
    for path in (Path("/etc/apt/sources.list.d/debian.sources"), Path("/etc/apt/sources.list")):
        if path.exists():
            lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
            for word in " ".join(lines).split():
                if word.startswith(("http://", "https://", "file:")):
                    return [word]
    return []


def run(
    *words: str, env: Mapping[str, str] | None = None, check: bool = True
) -> subprocess.CompletedProcess[str]:
    """A command at the project's top; its output is shown when it fails."""
    done = subprocess.run(
        words, cwd=ROOT, env={**os.environ, **(env or {})}, capture_output=True, text=True, timeout=1200
    )
    if check and done.returncode != 0:
        raise RuntimeError(
            f"{' '.join(words)}: code {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
        )
    return done
