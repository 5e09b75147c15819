"""``edgedet keygen``: a pair of keys to sign engines with."""

from __future__ import annotations

from pathlib import Path

import click

__all__ = ["command"]


@click.command()
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("edgedet.pem"),
    show_default=True,
    help="Private key; the public one gets the same name with .pub.pem",
)
@click.option("--passphrase", is_flag=True, help="Ask for a passphrase that protects the private key")
def command(output: Path, passphrase: bool) -> None:
    """Make an Ed25519 key that signs engines, and its public half that verifies them.

    Keep the private key where engines are built, and put the public one onto the devices that run them.
    """
    from edgedet.engine_store.signature import generate

    public = output.with_suffix(".pub.pem")
    secret = click.prompt("Passphrase", hide_input=True, confirmation_prompt=True).encode() if passphrase else None
    fingerprint = generate(output, public, secret)
    click.echo(f"Key {fingerprint}")
    click.echo(f"Private: '{output}' (keep it to yourself)")
    click.echo(f"Public:  '{public}'")
    click.echo(f"Next: edgedet build MODEL.onnx --sign '{output}'")
