"""The command `quorate`: its groups of commands, and how an error becomes one line.

Commands are imported when they are used, so that each starts as fast as what it needs.
"""

import importlib
import logging
import os
import signal
import sys
from typing import Any

import click

from quorate import __version__, compiled
from quorate.cli import output

SIMULATOR = "The simulator"
"""Its commands take compiled modules, if there are any."""
COMMANDS: dict[str, dict[str, tuple[str, str]]] = {
    "A network on this machine": {
        "up": ("network:up", "Start a network, or say what runs."),
        "status": ("status:status", "Show height, round, peers, pool and lag per validator."),
        "peers": ("peers:peers", "Show, ban and unban the peers of each node."),
        "hand-over": ("lead:hand_over", "Let another member lead, before work on a machine."),
        "why-stalled": ("status:why_stalled", "Say in words what the network waits for."),
        "logs": ("network:logs", "Show what validators wrote; -f follows."),
        "kill": ("network:kill", "Kill a validator at once, as a crash would (SIGKILL)."),
        "stop": ("network:stop", "Stop a validator in good order."),
        "start": ("network:start", "Start a validator that was killed or stopped."),
        "down": ("network:down", "Stop the network; its chain stays."),
        "reset": ("network:reset", "Stop the network and delete its chain and keys."),
    },
    "A network on several machines": {
        "init": ("deploy:init", "Write network.toml, genesis and keys for given hosts."),
        "run": ("run:run", "Run one validator from its folder."),
        "add": ("add:add", "Make one more validator, which follows until it is voted in."),
        "vote": ("vote:vote", "Let validators vote on who agrees, and with how much power."),
    },
    SIMULATOR: {
        "judge": ("judge:judge", "Judge what a real network has written, by the same rules."),
        "compare": ("compare:compare", "Measure engines side by side under the same faults."),
        "sim": ("sim:sim", "Run a network through thousands of seeds, each with other faults."),
        "replay": ("replay:replay", "Repeat one run exactly and tell what happened in it."),
        "shrink": ("shrink:shrink", "Make a failing run small: as few faults as possible."),
        "diagram": ("diagram:diagram", "Draw a run: who said what to whom, when and why."),
        "why": ("why:why", "Say when a run became doomed, and by what."),
        "history": ("history:history", "Judge what clients were told: is there an order for it?"),
        "scenario": ("scenario:scenario", "List and run known ways in which agreement fails."),
        "compile": ("compile:compile_", "Compile what runs spend their time in."),
    },
    "Keys and proofs": {
        "keys": ("keys:keys", "Make, import and show validator keys."),
        "genesis": ("genesis:genesis", "Show, hash and verify a genesis file."),
        "verify": ("verify:verify", "Verify a block's certificate without trusting the node."),
    },
    "Chains as files": {
        "import": ("chain_files:import_", "Import blocks of Ethereum into a store."),
        "export": ("chain_files:export", "Write blocks of a store to a file."),
        "serve": ("chain_files:serve", "Answer JSON-RPC from a store, without a network."),
    },
    "States and stores": {
        "db": ("db:db", "Check a validator's store, and shrink its file."),
        "snapshot": ("snapshot:snapshot", "Write, verify and load the state of a block."),
    },
    "This program": {
        "version": ("about:version", "Show versions of everything that matters."),
        "completion": ("about:completion", "Print the completion script of a shell."),
    },
}
VERDICTS = frozenset({"sim", "replay", "judge", "history", "scenario"})
"""Commands whose exit code 1 says that a promise was broken. What they could not even judge, as a
file that cannot be read, ends with the code of what is not known.
"""
EXIT_UNKNOWN = 2
PLACES = {name: place for group in COMMANDS.values() for name, (place, _) in group.items()}


class Commands(click.Group):
    """A group that imports a command when it is called, and lists them by subject."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(PLACES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in PLACES:
            return None
        module, attribute = PLACES[cmd_name].split(":")
        if cmd_name in COMMANDS[SIMULATOR] or cmd_name == "run":
            compiled.use()
        command = getattr(importlib.import_module(f"quorate.cli.{module}"), attribute)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if not name.startswith("-") and name not in PLACES:
            close = click.exceptions.NoSuchCommand(name, possibilities=near(name), ctx=ctx)
            raise close
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, group in COMMANDS.items():
            with formatter.section(title):
                formatter.write_dl([(name, text) for name, (_, text) in group.items()])


def near(name: str) -> list[str]:
    """Return commands that were perhaps meant."""
    import difflib

    return difflib.get_close_matches(name, PLACES, n=3, cutoff=0.5)


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="quorate")
@click.option("--debug", is_flag=True, envvar="QUORATE_DEBUG", help="Show tracebacks of errors.")
@click.option("-v", "--verbose", count=True, help="Say more; twice for everything.")
@click.option("-q", "--quiet", is_flag=True, help="Print answers and errors only.")
@click.pass_context
def cli(ctx: click.Context, debug: bool, verbose: int, quiet: bool) -> None:
    """One ledger whose way of agreeing is a line of configuration.

    \b
    quorate up                 start four validators, JSON-RPC on http://127.0.0.1:8545
    quorate status             see their heights, rounds, peers and pools
    quorate kill 3             crash one; the other three go on
    quorate why-stalled        ask what the network waits for
    quorate down               stop; `quorate up` continues the same chain

    Every option is also an environment variable: --block-time is QUORATE_BLOCK_TIME.
    """
    ctx.obj = {"debug": debug, "verbose": verbose, "quiet": quiet}
    levels = [logging.WARNING, logging.INFO, logging.DEBUG]
    logging.basicConfig(
        stream=sys.stderr, format="%(levelname)s %(message)s", level=levels[min(verbose, 2)]
    )


def main(args: list[str] | None = None) -> None:
    """Run the command and leave with its exit code."""
    sys.exit(run(sys.argv[1:] if args is None else args))


def run(args: list[str]) -> int:
    """Run the command line `args`; return the exit code."""
    debug = "--debug" in args or bool(os.environ.get("QUORATE_DEBUG"))
    try:
        result: Any = cli.main(args, prog_name="quorate", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except click.exceptions.Exit as leave:
        return leave.exit_code
    except (click.Abort, KeyboardInterrupt):
        output.say()
        return output.EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader went away (`quorate logs | head`): what is left to write goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except Exception as error:
        if debug:
            raise
        code = report(error)
        # No option before the command takes a value.
        command = next((word for word in args if not word.startswith("-")), "")
        return EXIT_UNKNOWN if code == output.EXIT_FAILURE and command in VERDICTS else code


def report(error: Exception) -> int:
    """Print one line about an error; return the exit code."""
    if isinstance(error, click.UsageError):
        error.show()
        return error.exit_code
    if isinstance(error, click.ClickException):
        message = error.format_message()
        code = error.code if isinstance(error, output.Problem) else error.exit_code
    elif is_expected(error):
        message, code = describe(error), output.EXIT_FAILURE
    else:
        message = f"{type(error).__name__}: {error} (a bug; --debug shows where)"
        code = output.EXIT_FAILURE
    click.echo(output.style("error: ", sys.stderr, fg="red", bold=True) + message, err=True)
    return code


def is_expected(error: Exception) -> bool:
    """Whether an error is the input's or the world's rather than ours."""
    from quorate.base.errors import Corrupt, Invalid, Unavailable

    return isinstance(error, Corrupt | Invalid | Unavailable | OSError)


def describe(error: Exception) -> str:
    """Return an error's text on one line."""
    if isinstance(error, OSError) and error.strerror:
        named = f"{error.filename}: " if error.filename else ""
        return f"{named}{error.strerror}"
    return " ".join(str(error).split())
