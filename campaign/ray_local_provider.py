"""Lets `ray up`, `ray submit` and `ray down` use this machine as the cluster, without sshd.

Ray's launcher knows clouds and hosts it reaches by ssh; this is the external node provider that
runs its commands here instead. `ray stop` ends the processes of this cluster only, and Ray's way of
ending a host (`sudo shutdown`) is left out.
"""

import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import psutil
from ray.autoscaler.command_runner import CommandRunnerInterface
from ray.autoscaler.node_provider import NodeProvider

from campaign.process_identity import kill, marked_processes
from continuum.atomic_file import write_atomically

MARK = "BILAYER_LOCAL_RAY"
HEAD, ADDRESS = "head", "127.0.0.1"
_STOP = "ray stop"
_GRACE_S = 5.0


class LocalProvider(NodeProvider):
    """One node, which is this machine; its tags are kept in ~/.ray/<cluster>.bilayer.json."""

    def __init__(self, provider_config: dict[str, Any], cluster_name: str) -> None:
        super().__init__(provider_config, cluster_name)
        self._path = Path.home() / ".ray" / f"{cluster_name}.bilayer.json"

    @staticmethod
    def bootstrap_config(cluster_config: dict[str, Any]) -> dict[str, Any]:
        return cluster_config

    def non_terminated_nodes(self, tag_filters: dict[str, str]) -> list[str]:
        tags = self._read()
        matches = tags is not None and tag_filters.items() <= tags.items()
        return [HEAD] if matches else []

    def is_running(self, node_id: str) -> bool:
        return self._read() is not None

    def is_terminated(self, node_id: str) -> bool:
        return self._read() is None

    def node_tags(self, node_id: str) -> dict[str, str]:
        return self._read() or {}

    def external_ip(self, node_id: str) -> str:
        return ADDRESS

    def internal_ip(self, node_id: str) -> str:
        return ADDRESS

    def create_node(self, node_config: dict[str, Any], tags: dict[str, str], count: int) -> None:
        with self._locked():
            self._write(dict(tags))

    def set_node_tags(self, node_id: str, tags: dict[str, str]) -> None:
        with self._locked():
            self._write({**(self._read() or {}), **tags})

    def terminate_node(self, node_id: str) -> None:
        end_cluster(self.cluster_name)
        self._path.unlink(missing_ok=True)

    def get_command_runner(self, *arguments: Any, **options: Any) -> "HereRunner":
        return HereRunner(self.cluster_name)

    def _read(self) -> dict[str, str] | None:
        try:
            tags: dict[str, str] = json.loads(self._path.read_text())
        except FileNotFoundError:
            return None
        return tags

    def _write(self, tags: dict[str, str]) -> None:
        write_atomically(self._path, json.dumps(tags, indent=1) + "\n")

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with open(self._path.with_suffix(".lock"), "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


class HereRunner(CommandRunnerInterface):
    """Runs in a shell of this machine what Ray would run over ssh."""

    def __init__(self, cluster_name: str) -> None:
        self._cluster = cluster_name

    def run(
        self,
        cmd: str | None = None,
        timeout: int = 120,
        exit_on_fail: bool = False,
        port_forward: list[tuple[int, int]] | None = None,
        with_output: bool = False,
        environment_variables: dict[str, object] | None = None,
        *ignored: Any,
        **also_ignored: Any,
    ) -> str:
        """Run a command with this Python's programs first on the PATH.

        Raises click.ClickException where it fails.
        """
        wanted, stops = without_the_end(cmd or "true")
        try:
            return self._run(wanted, with_output, environment_variables or {}) if wanted else ""
        finally:
            if stops:
                end_cluster(self._cluster)

    def run_rsync_up(self, source: str, target: str, options: dict[str, Any] | None = None) -> None:
        copy_here(source, target)

    def run_rsync_down(
        self, source: str, target: str, options: dict[str, Any] | None = None
    ) -> None:
        copy_here(source, target)

    def remote_shell_command_str(self) -> str:
        return "bash"

    def _run(self, command: str, with_output: bool, variables: dict[str, object]) -> str:
        programs = os.path.dirname(sys.executable)
        environment = {
            **os.environ,
            **{name: str(value) for name, value in variables.items()},
            "PATH": os.pathsep.join([programs, os.environ.get("PATH", os.defpath)]),
            MARK: mark_of(self._cluster),
            **address_of(self._cluster),
        }
        done = subprocess.run(
            ["bash", "-c", command],
            env=environment,
            stdout=subprocess.PIPE if with_output else None,
            text=True,
            check=False,
        )
        if done.returncode:
            raise click.ClickException(f"exit code {done.returncode}: {command}")
        return done.stdout or ""


def without_the_end(command: str) -> tuple[str, bool]:
    """What to run of a command of Ray's, and whether the cluster is to be ended after it."""
    parts = [part.strip() for part in command.split(";")]
    if _STOP not in parts:
        return command, False
    return "; ".join(parts[: parts.index(_STOP)]), True


def mark_of(cluster_name: str) -> str:
    """What the processes of a cluster of this user carry in their environment."""
    return f"{os.getuid()}:{cluster_name}"


def address_of(cluster_name: str) -> dict[str, str]:
    """RAY_ADDRESS of the cluster if it is up: there may be others on this machine."""
    for process in marked_processes(MARK, mark_of(cluster_name)):
        if process.name() == "gcs_server":
            ports = [c.laddr.port for c in process.net_connections() if c.status == "LISTEN"]
            return {"RAY_ADDRESS": f"{ADDRESS}:{ports[0]}"} if ports else {}
    return {}


def end_cluster(cluster_name: str) -> None:
    """End the processes of a cluster: asked first, killed after a while."""
    processes = marked_processes(MARK, mark_of(cluster_name))
    for process in processes:
        try:
            process.terminate()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(processes, timeout=_GRACE_S)
    stubborn = kill(marked_processes(MARK, mark_of(cluster_name)))
    if stubborn:
        raise click.ClickException(f"processes will not end: {[p.pid for p in stubborn]}")


def copy_here(source: str, target: str) -> None:
    """Copy a file or folder as rsync would to a host that is this one."""
    here, there = Path(source).expanduser(), Path(target).expanduser()
    if here.resolve() == there.resolve():
        return
    there.parent.mkdir(parents=True, exist_ok=True)
    if here.is_dir():
        shutil.copytree(here, there, dirs_exist_ok=True)
    else:
        shutil.copy2(here, there)
