"""Plays an auction on a running network: `python run.py HOST:PORT [HOST:PORT ...]`."""

import json
import sys

from quorate.client import Refusal, SyncClient, open_client


def call(client: SyncClient, **asked: object) -> str:
    try:
        return client.call(json.dumps(asked).encode()).decode()
    except Refusal as refusal:
        return f"refused: {refusal}"


def main() -> None:
    places = [place.rpartition(":") for place in sys.argv[1:] or ["127.0.0.1:8545"]]
    addresses = [(host, int(port)) for host, _, port in places]
    with open_client(*addresses) as alice, open_client(*addresses) as bob:
        print("open ", call(alice, open="painting", minimum=10, seconds=60))
        print("alice", call(alice, bid="painting", amount=12))
        print("bob  ", call(bob, bid="painting", amount=11))
        print("bob  ", call(bob, bid="painting", amount=15))
        entry = alice.get(b"auction/painting")
        assert entry is not None
        print(f"all   {entry.value.decode()} at revision {entry.modified}")


if __name__ == "__main__":
    main()
