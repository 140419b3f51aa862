"""`quorate compile`: the modules that simulated runs spend their time in, as machine code."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn

import click

from quorate import compiled
from quorate.cli.options import option
from quorate.cli.output import emit, fail, is_terminal, say
from quorate.cli.selection import select

OPTIMISATION = "2"
KEPT_BUILDS = 4
"""Of other sources, as of other branches; older ones are removed."""
UNFINISHED = "build-"
"""What folders of builds under way are called."""
ABANDONED_S = 6 * 3600
"""Nobody compiles for so long."""
EVERY_LINE_S = 10.0
"""Where lines cannot be redrawn."""
SHOWN_LINES = 30


@click.command("compile")
@option(
    "--jobs",
    type=click.IntRange(1, 1024),
    default=None,
    show_default=False,
    help="C compilers at a time.  [default: one for each processor]",
)
@option("--force", is_flag=True, help="Compile even what is compiled already.")
@option("--list", "listing", is_flag=True, help="Only say which modules are compiled.")
def compile_(jobs: int | None, force: bool, listing: bool) -> None:
    """Compile the node, the engines and the simulator: simulated runs take little more than half
    the time, and a validator spends up to a quarter less on a block.

    Everything works without. What is compiled behaves exactly as its sources do, which is checked
    at the end, and is used by `sim`, `replay`, `shrink` and the like, and by validators that start
    afterwards, as long as no source has changed; then they go back to the sources until you compile
    again. Takes a minute or two and needs mypy and a C compiler. QUORATE_COMPILED=0 does without
    what is compiled: tracebacks then show local variables, and profilers every function.

    \b
    quorate compile
    quorate compile --list        which modules, and why others are not
    """
    sources = compiled.read_sources()
    chosen, reasons = select(sources)
    if listing:
        for name in chosen:
            emit(name)
        for name, reason in sorted(reasons.items()):
            emit(f"{name}: interpreted, {reason}")
        return
    key = compiled.compute_key(sources)
    found = compiled.find(key)
    if found is not None and not force:
        emit(f"compiled already, in {found}")
        return
    build = Build(sources, find_compiler(), jobs or os.cpu_count() or 1)
    seconds = build.carry_out(key)
    for name, reason in sorted(build.refused.items()):
        say(f"{name} stays interpreted: {reason}")
    emit(f"compiled {len(build.chosen)} modules in {seconds:.0f} s")


def find_compiler() -> list[str]:
    """Return the C compiler; end with one line for each thing that is missing."""
    missing = []
    if importlib.util.find_spec("mypyc") is None:
        missing.append("mypy: pip install 'quorate[compile]'")
    names = [os.environ.get("CC") or "cc", "gcc", "clang"]
    compiler = next((name for name in names if shutil.which(name.split()[0])), None)
    if compiler is None:
        missing.append("a C compiler: install gcc or clang (Debian, Ubuntu: apt install gcc)")
    if not (Path(sysconfig.get_path("include")) / "Python.h").exists():
        missing.append("Python's headers: install them (Debian, Ubuntu: apt install python3-dev)")
    for line in missing[:-1]:
        say(f"error: missing {line}")
    if missing or compiler is None:
        fail(f"missing {missing[-1]}")
    return compiler.split()


class Steps:
    """Says which step is under way: redrawn on a terminal, else a line now and then."""

    def __init__(self, count: int) -> None:
        self.count, self.number, self.label, self.detail = count, 0, "", ""
        self.moving = is_terminal(sys.stderr)
        self.began = self.shown = time.monotonic()
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.tick, daemon=True)

    def __enter__(self) -> "Steps":
        self.thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.ended.set()
        self.thread.join()
        if self.moving:
            click.echo("\r\x1b[2K", err=True, nl=False)

    def enter(self, label: str) -> None:
        self.number, self.label, self.detail = self.number + 1, label, ""
        self.draw()

    def tick(self) -> None:
        """Show that time passes while a step says nothing."""
        while not self.ended.wait(1):
            if self.moving or time.monotonic() - self.shown >= EVERY_LINE_S:
                self.draw()

    def draw(self) -> None:
        self.shown = time.monotonic()
        line = f"[{self.number}/{self.count}] {self.label}"
        line += f": {self.detail}" if self.detail else ""
        line += f" ({self.shown - self.began:.0f} s)"
        if self.moving:
            width = max(20, (shutil.get_terminal_size().columns or 80) - 1)
            click.echo("\r\x1b[2K" + line[:width], err=True, nl=False)
        else:
            say(line)


class Build:
    """One build, in a folder of its own until it is complete."""

    def __init__(self, sources: compiled.Sources, compiler: list[str], jobs: int) -> None:
        self.sources, self.compiler, self.jobs = sources, compiler, jobs
        self.refused: dict[str, str] = {}
        """Modules that mypyc does not take, and what it says."""
        self.chosen, _ = select(sources)

    def carry_out(self, key: str) -> float:
        """Make the build of this name; return how many seconds it took."""
        began = time.monotonic()
        cache = compiled.get_cache()
        try:
            cache.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=cache, prefix=UNFINISHED) as name:
                folder = Path(name)
                with Steps(4) as steps:
                    self.carry_out_in(folder, steps)
                (folder / "lib" / compiled.COMPLETE).touch()
                shutil.rmtree(cache / key, ignore_errors=True)
                # Nobody else may put anything there, whatever the umask says.
                (folder / "lib").chmod(0o700)
                (folder / "lib").rename(cache / key)
        except OSError as error:
            fail(f"{error.filename or cache}: {error.strerror}")
        remove_old(cache, key)
        return time.monotonic() - began

    def carry_out_in(self, folder: Path, steps: Steps) -> None:
        steps.enter(f"translating {len(self.chosen)} modules")
        extensions = self.translate(folder)
        steps.enter("compiling")
        objects = self.compile(folder, extensions, steps)
        steps.enter("linking")
        self.link(folder, objects)
        steps.enter("comparing runs with those of the sources")
        compare(folder / "lib")

    def translate(self, folder: Path) -> list[dict[str, Any]]:
        """Write C files; return what is built of which."""
        for name, text in self.sources.items():
            path = folder / "quorate" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text)
        for name in ("__init__.py", "compiled.py", "py.typed"):
            shutil.copy(compiled.PACKAGE / name, folder / "quorate" / name)
        command = [sys.executable, "-P", "-m", "quorate.cli.translate", str(folder), OPTIMISATION]
        while True:
            paths = [f"quorate/{name}" for name in self.chosen]
            ended = run([*command, *paths])
            if ended.returncode == 0:
                extensions: list[dict[str, Any]] = json.loads(ended.stdout.splitlines()[-1])
                return extensions
            errors = re.findall(r"^quorate/(\S+?):\d+: error: (.*)", ended.stdout, re.MULTILINE)
            found = {name: text for name, text in errors if name in self.chosen}
            if not found:
                show_failure(ended, "mypyc")
            # Everything works without: what is refused stays interpreted, with its heirs.
            self.refused |= found
            self.chosen, _ = select(self.sources, self.refused)

    def compile(
        self, folder: Path, extensions: list[dict[str, Any]], steps: Steps
    ) -> dict[str, list[str]]:
        """Compile all C files, the largest first; return the object files of each module."""
        tasks = [
            (extension, source, f"c/{number}-{index}.o")
            for number, extension in enumerate(extensions)
            for index, source in enumerate(extension["sources"])
        ]
        tasks.sort(key=lambda task: -(folder / task[1]).stat().st_size)
        sizes = {source: (folder / source).stat().st_size for _, source, _ in tasks}
        total, done = sum(sizes.values()), 0

        def compile_one(task: tuple[dict[str, Any], str, str]) -> None:
            nonlocal done
            extension, source, target = task
            folders = [f"-I{at}" for at in (sysconfig.get_path("include"), *extension["folders"])]
            # What warnings another version of a compiler has is nothing to stop for.
            options = [word for word in extension["options"] if word != "-Werror"]
            if Path(source).name.startswith("__native_quorate"):
                options += ["-include", str(compiled.SHORTCUTS)]
            command = [*self.compiler, *FLAGS, *options, *folders, "-c", source, "-o", target]
            run_quietly(command, "the C compiler", folder)
            done += sizes[source]
            steps.detail = f"{100 * done // total} %"

        for_each(self.jobs, compile_one, tasks)
        objects: dict[str, list[str]] = {}
        for extension, _, target in tasks:
            objects.setdefault(extension["name"], []).append(target)
        return objects

    def link(self, folder: Path, objects: dict[str, list[str]]) -> None:
        def link_one(name: str) -> None:
            target = folder / "lib" / (name.replace(".", "/") + compiled.SUFFIX)
            target.parent.mkdir(parents=True, exist_ok=True)
            command = [*self.compiler, *SHARED, *objects[name], "-o", str(target)]
            run_quietly(command, "the linker", folder)

        for_each(self.jobs, link_one, list(objects))


FLAGS = [
    "-fPIC",
    "-DNDEBUG",
    "-fwrapv",
    "-fno-semantic-interposition",
    # Calls between modules of the build, and those of Python, without a detour by a table of jumps.
    "-fvisibility=hidden",
    "-fno-plt",
]
SHARED = ["-bundle", "-undefined", "dynamic_lookup"] if sys.platform == "darwin" else ["-shared"]


def for_each(jobs: int, call: Callable[[Any], None], tasks: list[Any]) -> None:
    """Make calls beside each other; the first error ends it."""
    with ThreadPoolExecutor(jobs) as pool:
        try:
            for _ in pool.map(call, tasks):
                pass
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def run(command: list[str], folder: Path | None = None) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, errors="replace", check=False
    )


def run_quietly(command: list[str], what: str, folder: Path | None = None) -> str:
    """Run a program and return what it printed; show that only if it fails."""
    ended = run(command, folder)
    if ended.returncode != 0:
        show_failure(ended, what)
    return ended.stdout


def show_failure(ended: "subprocess.CompletedProcess[str]", what: str) -> NoReturn:
    for line in (ended.stdout + ended.stderr).splitlines()[-SHOWN_LINES:]:
        say(line)
    fail(f"{what} failed with exit code {ended.returncode}; its output is above")


def compare(folder: Path) -> None:
    """End unless runs by a build are equal, event by event, to runs by the sources."""
    command = [sys.executable, "-P", "-m", "quorate.cli.sample"]
    expected = json.loads(run_quietly(command, "a run"))
    found = json.loads(run_quietly([*command, str(folder)], "a compiled run"))
    for name, digest in expected.items():
        if found[name] != digest:
            fail(
                f"the compiled modules are not used: run {name} has digest {found[name]}, "
                f"expected {digest}"
            )


def list_builds(cache: Path) -> Iterator[tuple[float, Path]]:
    for marker in cache.glob("*/" + compiled.COMPLETE):
        yield marker.stat().st_mtime, marker.parent


def remove_old(cache: Path, key: str) -> None:
    """Remove builds of other sources but for the newest, and what killed builds have left."""
    others = sorted((at, folder) for at, folder in list_builds(cache) if folder.name != key)
    for _, folder in others[:-KEPT_BUILDS]:
        shutil.rmtree(folder, ignore_errors=True)
    for folder in cache.glob(UNFINISHED + "*"):
        if folder.stat().st_mtime < time.time() - ABANDONED_S:
            shutil.rmtree(folder, ignore_errors=True)
