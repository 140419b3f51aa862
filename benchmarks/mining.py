"""How many nonces does a mining thread try in a second?

Compared with `openssl speed` of SHA3-256 over 64 bytes, which is one permutation of Keccak as a try
is, in C or assembly. Runs alternate, and the ratio of medians is printed. The kernel tries eight
nonces side by side where the processor has AVX-512, which openssl's interface cannot.

    python benchmarks/mining.py [--seconds 2] [--rounds 3] [--threads 4]
"""

import argparse
import re
import statistics
import subprocess
import threading
import time

from quorate._kernel import seal

HEADER = bytes(180)
NEVER = bytes(32)
"""A target that no hash meets."""
SLICE = 1 << 18


def measure_kernel(seconds: float, threads: int) -> float:
    """Return hashes per second of all threads together."""
    tried = [0] * threads
    end = time.monotonic() + seconds

    def run(index: int) -> None:
        while time.monotonic() < end:
            assert seal(HEADER, NEVER, tried[index], SLICE) is None
            tried[index] += SLICE

    workers = [threading.Thread(target=run, args=(i,)) for i in range(threads)]
    began = time.monotonic()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return sum(tried) / (time.monotonic() - began)


def measure_openssl(seconds: int) -> float:
    """Return SHA3-256 hashes of 64 bytes per second of one thread."""
    command = ["openssl", "speed", "-seconds", str(seconds), "-bytes", "64", "-evp", "sha3-256"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = re.search(r"Doing sha3-256 ops for \d+s on 64 size blocks: (\d+) sha3-256 ops in "
                      r"([0-9.]+)s", done.stderr, re.IGNORECASE)  # fmt: skip
    if found is None:
        (line,) = [text for text in done.stdout.splitlines() if text.lower().startswith("sha3-256")]
        return float(line.split()[1].rstrip("k")) * 1000 / 64
    return int(found[1]) / float(found[2])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=4, help="of the last row")
    options = parser.parse_args()
    version = subprocess.run(["openssl", "version"], capture_output=True, text=True, check=True)
    ours, theirs, many = [], [], []
    for _ in range(options.rounds):
        ours.append(measure_kernel(options.seconds, 1))
        theirs.append(measure_openssl(options.seconds))
        many.append(measure_kernel(options.seconds, options.threads))
    peer = statistics.median(theirs)
    print(f"{version.stdout.strip()}: {peer / 1e6:.2f} million hashes a second")
    for name, runs in (("one thread", ours), (f"{options.threads} threads", many)):
        rate = statistics.median(runs)
        print(f"kernel, {name}: {rate / 1e6:.2f} million hashes a second, ratio {rate / peer:.2f}")


if __name__ == "__main__":
    main()
