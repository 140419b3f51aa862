"""What the system around a validator process is told, and its child process.

`Notifier` speaks systemd's notification protocol (sd_notify(3)): READY, WATCHDOG, STOPPING.
`Child` keeps the JSON-RPC process running: it starts it again when it ends, ever later, and sees
that it ends with its parent, whichever way the parent ends.
"""

import asyncio
import ctypes
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

__all__ = ["Child", "Notifier"]

PR_SET_PDEATHSIG = 1
RESTART_FIRST_S = 0.2
RESTART_LONGEST_S = 30.0
STEADY_S = 10.0
"""A child that lived as long did well: the next start comes without a long pause."""
END_PATIENCE_S = 5.0

Log = Callable[..., None]


class Notifier:
    """Tells systemd about this process; silent where nobody listens."""

    __slots__ = ("_address", "watchdog_s")

    def __init__(self, environment: Mapping[str, str]) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        # A leading @ means Linux's abstract namespace.
        self._address = "\0" + address[1:] if address.startswith("@") else address
        interval_us = environment.get("WATCHDOG_USEC", "")
        watched = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self.watchdog_s = int(interval_us) / 2e6 if interval_us.isdigit() and watched else 0.0
        """How often a sign of life is wanted; 0: never."""

    def tell(self, *lines: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
                sock.setblocking(False)
                sock.sendto("\n".join(lines).encode(), self._address)
        except OSError:
            # Nobody to tell; systemd then acts on its own timeouts.
            return

    def ready(self, status: str) -> None:
        self.tell("READY=1", f"STATUS={status}")

    def alive(self, status: str) -> None:
        self.tell("WATCHDOG=1", f"STATUS={status}")

    def stopping(self) -> None:
        self.tell("STOPPING=1")


class Child:
    """A process that is started again until `stop`."""

    def __init__(self, name: str, command: list[str], log: Log, *, output: Path | None) -> None:
        """`output` gets what the child writes to stdout and stderr; None: our own stderr."""
        self.name, self.command, self.log = name, command, log
        self.output = output
        self.process: asyncio.subprocess.Process | None = None
        self.starts = 0
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._supervise())

    async def stop(self) -> None:
        """End the child: it is asked first, and killed when it does not listen."""
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        process, self.process = self.process, None
        if process is None or process.returncode is not None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), END_PATIENCE_S)
        except TimeoutError:
            self.log("warning", f"{self.name} does not end, killed", pid=process.pid)
            process.kill()
            await process.wait()

    async def _supervise(self) -> None:
        pause_s = RESTART_FIRST_S
        while True:
            began = time.monotonic()
            try:
                await self._spawn()
            except OSError as error:
                self.log("error", f"{self.name} cannot be started", reason=str(error))
            else:
                assert self.process is not None
                self.log("info", f"{self.name} started", pid=self.process.pid)
                code = await self.process.wait()
                lived_s = time.monotonic() - began
                if lived_s >= STEADY_S:
                    pause_s = RESTART_FIRST_S
                self.log(
                    "warning",
                    f"{self.name} ended, starting it again",
                    code=code,
                    lived_s=round(lived_s, 1),
                    pause_s=pause_s,
                )
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, RESTART_LONGEST_S)

    async def _spawn(self) -> None:
        self.starts += 1
        target: Any = None
        if self.output is not None:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            target = os.open(self.output, flags, 0o600)
        try:
            self.process = await asyncio.create_subprocess_exec(
                *prepare_command(self.command),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=target,
                stderr=target,
            )
        finally:
            if target is not None:
                os.close(target)


def prepare_command(command: list[str]) -> list[str]:
    """Return a command that will die with its parent, and becomes `command`.

    A small Python between, since running code between fork and exec in a process with threads is
    not safe.
    """
    return [
        sys.executable,
        "-S",
        "-E",
        "-c",
        "import sys; sys.path.insert(0, sys.argv[1]); "
        "from quorate.runtime.supervision import become; become(sys.argv[2:])",
        str(Path(__file__).resolve().parents[2]),
        str(os.getpid()),
        *command,
    ]


def become(arguments: list[str]) -> None:
    """Tie this process to its parent, and become the command."""
    parent, command = int(arguments[0]), arguments[1:]
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    # The parent may have ended before the line above.
    if os.getppid() != parent:
        sys.exit(0)
    os.execvp(command[0], command)
