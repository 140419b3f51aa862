"""A failing run as a test that pytest runs: a small file, and the run beside it."""

import re
from pathlib import Path
from textwrap import dedent

from quorate.cli.output import EXIT_USAGE, fail
from quorate.cli.target import write_recording
from quorate.simulator.replay import Recording

__all__ = ["make_test", "write_test"]


def write_test(path: Path, recording: Recording) -> None:
    """Write the test of a failing run, and its run file with the same name beside it."""
    if path.suffix != ".py" or not path.stem.startswith("test_"):
        fail(f"{path}: expected a name like test_found.py, which pytest collects", EXIT_USAGE)
    run_file = path.with_suffix(".json")
    write_recording(run_file, recording)
    path.write_text(make_test(recording, run_file.name), encoding="utf-8")


def make_test(recording: Recording, run_file: str) -> str:
    """Return the source of a test. It fails as long as the run does; where a bug was put in on
    purpose, it fails when that is no longer found.
    """
    expected, plan = recording.expected, recording.plan
    assert expected is not None
    name = re.sub(r"\W+", "_", expected.property).strip("_")
    head = f'''
        """Found by the simulator: a run in which this property fails: {expected.property}.

        The run lies beside this file. To see what happens: quorate replay {run_file}
        """

        from pathlib import Path

        IMPORTS
        from quorate.simulator.replay import decode_recording
        from quorate.simulator.run import run
        from quorate.simulator.tape import Tape

        RUN = Path(__file__).with_name("{run_file}")
        '''
    fixed = f"""

        def test_{name}_holds() -> None:
            recording = decode_recording(RUN.read_bytes(), RUN.name)
            outcome = run(recording.plan, Tape(0, recording.tape))
            assert outcome.verdict == "true", outcome.findings
        """
    put_back = f'''

        def test_{name}_fails_with_the_bug() -> None:
            """{plan.bug}"""
            recording = decode_recording(RUN.read_bytes(), RUN.name)
            outcome = run(recording.plan, Tape(0, recording.tape))
            assert outcome.get_class() == "{expected.property}"


        def test_{name}_holds_without_the_bug() -> None:
            recording = decode_recording(RUN.read_bytes(), RUN.name)
            outcome = run(replace(recording.plan, bug=""), Tape(0, recording.tape))
            assert outcome.verdict == "true", outcome.findings
        '''
    source = dedent(head).lstrip() + dedent(put_back if plan.bug else fixed)
    return source.replace(
        "IMPORTS\n", "from msgspec.structs import replace\n\n" if plan.bug else ""
    )
