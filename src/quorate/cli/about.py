"""`quorate version` and `quorate completion`."""

import json
import platform
import ssl

import click
from click.shell_completion import get_completion_class

from quorate import __version__
from quorate.cli.options import format_option
from quorate.cli.output import emit


@click.command()
@format_option
def version(output: str) -> None:
    """Show the versions of everything that matters.

    \b
    quorate version
    quorate version -o json
    """
    from quorate import _kernel

    found = {
        "quorate": __version__,
        "kernel": _kernel.__version__,
        "python": platform.python_version(),
        "openssl": ssl.OPENSSL_VERSION,
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
    }
    if output == "json":
        emit(json.dumps(found, indent=2))
        return
    for name, value in found.items():
        emit(f"{name:8} {value}")


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script of a shell.

    \b
    quorate completion bash >> ~/.bashrc
    quorate completion zsh  >> ~/.zshrc
    quorate completion fish > ~/.config/fish/completions/quorate.fish
    """
    from quorate.cli.main import cli

    script = get_completion_class(shell)
    assert script is not None
    emit(script(cli, {}, "quorate", "_QUORATE_COMPLETE").source())
