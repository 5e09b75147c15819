from __future__ import annotations

import click
from click.testing import CliRunner

from edgedet.cli.network_options import network_options
from edgedet.runtime.capture import NetworkOptions


def parsed(*words: str) -> NetworkOptions | None:
    """Return what a command with the options is given."""
    found: list[NetworkOptions | None] = []

    @click.command()
    @network_options
    def command(network: NetworkOptions | None) -> None:
        found.append(network)

    assert CliRunner().invoke(command, words).exit_code == 0
    return found[0]


def test_every_option_arrives():
    words = "--network-timeout 2.5 --network-transport udp --network-hardware vaapi:/dev/dri/renderD128"
    assert parsed(*words.split()) == NetworkOptions(2.5, "udp", "vaapi:/dev/dri/renderD128")


def test_what_is_not_given_keeps_its_default():
    assert parsed("--network-timeout", "3") == NetworkOptions(timeout=3)


def test_nothing_given_leaves_everything_as_it_is():
    assert parsed() is None
