"""As a program: from modules to C files by mypyc, in a process of its own.

    python -m quorate.cli.translate FOLDER OPTIMISATION PATH...

FOLDER holds the sources below `quorate/` and gets the C files. The last line on standard output is
a list of what to build of them, as JSON.
"""

import json
import os
import sys

__all__: list[str] = []


def main() -> None:
    folder, optimisation, *paths = sys.argv[1:]
    os.chdir(folder)
    os.environ["MYPYPATH"] = folder
    # Not before the folder is set, which mypy looks at.
    from mypyc.build import mypycify

    options = ["--config-file=", "--cache-dir=cache", "--explicit-package-bases"]
    extensions = mypycify(
        [*options, *paths],
        opt_level=optimisation,
        debug_level="0",
        multi_file=True,
        target_dir="c",
    )
    described = [
        {
            "name": extension.name,
            "sources": list(extension.sources),
            "folders": list(extension.include_dirs),
            "options": list(extension.extra_compile_args),
        }
        for extension in extensions
    ]
    print(json.dumps(described))


if __name__ == "__main__":
    main()
