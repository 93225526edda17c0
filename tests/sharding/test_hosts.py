"""Hosts on a network of the test's own: what they train, and what is said where one of them is cut off."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from toys import PATIENCE, stage, start_mpt, steps_done

from mpt import cli

pytestmark = pytest.mark.full
FILES = [f"prompts/{name}.safetensors" for name in ("teachers", "universal")]
# Runs the rest of its arguments on a host of that name, which knows the names of the others.
AS_HOST = 'mount --bind "$0" /etc/hosts && hostname "$1" && shift && exec "$@"'


class Network:
    """Four hosts that share a switch; each is a network namespace, with a name and an address."""

    def __init__(self, folder: Path):
        self._prefix, self._hosts = f"mpt{os.getpid()}-", folder / "hosts"
        addresses = {f"host{i}": f"10.77.0.{i + 1}" for i in range(4)}
        lines = ["127.0.0.1 localhost", *(f"{address} {name}" for name, address in addresses.items())]
        self._hosts.write_text("\n".join(lines) + "\n")
        self._ip("netns", "add", self._switch)
        self._ip("-n", self._switch, "link", "add", "name", "wire", "up", "type", "bridge")
        for name, address in addresses.items():
            here = self._prefix + name
            self._ip("netns", "add", here)
            ends = ("name", name, "type", "veth", "peer", "name", "eth0", "netns", here)
            self._ip("-n", self._switch, "link", "add", *ends)
            self._ip("-n", self._switch, "link", "set", name, "master", "wire", "up")
            self._ip("-n", here, "address", "add", f"{address}/24", "dev", "eth0")
            for device in ("eth0", "lo"):
                self._ip("-n", here, "link", "set", device, "up")

    @property
    def _switch(self) -> str:
        return self._prefix + "switch"

    def cut(self, host: int) -> None:
        """Pulls the plug of a host at the switch."""
        self._ip("-n", self._switch, "link", "set", f"host{host}", "down")

    def mend(self) -> None:
        for host in range(4):
            self._ip("-n", self._switch, "link", "set", f"host{host}", "up")

    def start(self, hosts: Sequence[int], devices: int, *arguments: str) -> list[subprocess.Popen]:
        """Runs `mpt` as one job on some hosts, each of so many devices."""
        first = f"host{hosts[0]}:7711"
        return [
            start_mpt(
                *arguments,
                after=(
                    *("ip", "netns", "exec", f"{self._prefix}host{host}"),
                    *("env", f"JAX_COORDINATOR_ADDRESS={first}", f"JAX_NUM_CPU_DEVICES={devices}"),
                    *(f"MPT_PROCESSES={len(hosts)}", f"MPT_PROCESS={number}", "NPROC=16"),
                    *("unshare", "--uts", "--mount", "sh", "-c", AS_HOST, str(self._hosts), f"host{host}"),
                ),
            )
            for number, host in enumerate(hosts)
        ]

    def remove(self) -> None:
        listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True).stdout.splitlines()
        for line in listed:
            if line.startswith(self._prefix):
                self._ip("netns", "del", line.split()[0])

    @staticmethod
    def _ip(*arguments: str) -> None:
        subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


@pytest.fixture(scope="module")
def laid(tmp_path_factory) -> Iterator[Network]:
    missing = [name for name in ("ip", "unshare") if not shutil.which(name)]
    if os.geteuid() or missing:
        pytest.skip(f"network namespaces are made by root, with {' and '.join(missing or ['ip', 'unshare'])}")
    folder = tmp_path_factory.mktemp("network")
    try:
        network = Network(folder)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"this machine makes no network namespaces: {error.stderr.strip()}")
    yield network
    network.remove()


@pytest.fixture
def network(laid, monkeypatch) -> Iterator[Network]:
    """The network with every host on it; what runs there compiles as the tests do."""
    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    laid.mend()
    yield laid
    laid.mend()


@pytest.fixture(scope="module")
def config(plain_pretrain, tmp_path_factory) -> str:
    """Stages that are long enough to be cut; twelve rows are as many devices' of three hosts and of four."""
    stages = {name: stage(30, save_every=5) | {"batch_size": 12} for name in ("teachers", "universal")}
    file = tmp_path_factory.mktemp("hosts") / "run.yaml"
    file.write_text(json.dumps(plain_pretrain | stages))
    return str(file)


def ended(job: Sequence[subprocess.Popen], within: float) -> list[tuple[int, str]]:
    """The exit status and standard error of each process, once all have ended."""
    end = time.monotonic() + within
    try:
        errors = [process.communicate(timeout=max(end - time.monotonic(), 0))[1] for process in job]
    finally:
        for process in job:
            process.kill()
    return [(process.returncode, error) for process, error in zip(job, errors)]


def finished(job: Sequence[subprocess.Popen]) -> None:
    for status, error in ended(job, 2 * PATIENCE):  # they share the cores of one machine
        assert status == 0, error


def figures(run: Path) -> list[dict]:
    """The lines of both stages, without the only figure that depends on the clock."""
    lines = [line for name in ("teachers", "universal") for line in (run / name / "metrics.jsonl").open()]
    return [
        {name: value for name, value in json.loads(line).items() if name != "rows_per_second"}
        for line in lines
    ]


def cut_off(network: Network, victim: int, run: Path, at: tuple[str, int], config: str) -> list[str]:
    """Starts four hosts, cuts one off when a stage has reached a step, and returns what each says last."""
    job = network.start(range(4), 3, "pretrain", config, "--out", str(run))
    name, step = at
    end = time.monotonic() + PATIENCE
    while all(process.poll() is None for process in job) and time.monotonic() < end:
        if steps_done(run, name) >= step:
            break
        time.sleep(0.002)
    network.cut(victim)
    done = ended(job, 60)
    for status, error in done:
        assert status == 1, error
        assert "Traceback" not in error and "stack trace" not in error, error
    assert not (run / "prompts" / "universal.safetensors").exists()
    return [error.splitlines()[-1] for _, error in done]


@pytest.fixture(scope="module")
def whole(laid, config, tmp_path_factory) -> Path:
    """What four hosts of three devices train, undisturbed."""
    run = tmp_path_factory.mktemp("whole") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
        patch.setenv("JAX_PLATFORMS", "cpu")
        finished(laid.start(range(4), 3, "pretrain", config, "--out", str(run)))
    return run


def test_four_hosts_train_the_prompt_of_one_process(whole, config, tmp_path):
    alone = tmp_path / "alone"
    assert cli.main(["pretrain", config, "--out", str(alone)]) == 0
    for file in FILES:
        ours, theirs = load_file(whole / file), load_file(alone / file)
        assert ours.keys() == theirs.keys()
        for key, value in theirs.items():
            np.testing.assert_allclose(ours[key], value, rtol=1e-4, atol=1e-4 * np.abs(value).max())


def test_a_host_that_is_cut_off_is_named_everywhere_and_the_others_go_on_bit_for_bit(
    network, whole, config, tmp_path
):
    """Three hosts of four devices have the mesh of four hosts of three."""
    run = tmp_path / "run"
    said = cut_off(network, 2, run, ("universal", 8), config)
    remedy = "the same command resumes from the last checkpoint, on the hosts that are left too"
    lost = f"mpt: process 2 of 4 (host2) no longer answers process 0 of 4 (host0); {remedy}"
    alone = f"mpt: process 0 of 4 (host0) no longer answers process 2 of 4 (host2); {remedy}"
    assert said == [lost, lost, alone, lost]
    finished(network.start((0, 1, 3), 4, "pretrain", config, "--out", str(run)))
    for file in FILES:
        assert (run / file).read_bytes() == (whole / file).read_bytes()
    assert figures(run) == figures(whole)


def test_the_first_host_is_named_where_it_is_cut_off(network, config, tmp_path):
    """All others are connected with it alone."""
    said = cut_off(network, 0, tmp_path / "run", ("teachers", 8), config)
    for number in (1, 2, 3):
        assert f"process 0 of 4 (host0) no longer answers process {number} of 4" in said[number]
    assert "no longer answers process 0 of 4 (host0)" in said[0]
