"""Records real EPCIS events on a running network and proves every record from its genesis alone.

    quorate up --detach
    python examples/supply_chain/run.py --genesis .quorate/genesis.json \\
        --documents ../shared/vectors/epcis/events

See README.md beside this file for what is trusted and what is not.
"""

import argparse
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from auditor import (
    CertificateForger,
    Client,
    ProofForger,
    make_client,
    needs_own_node,
    prove_record,
)
from documents import DocumentStore, Tampered
from epcis import Event, read_folder
from registry import COMPANIES, Company, Registry, Role, Sender, derive_account, role_of
from web3 import Web3

from quorate.base.errors import Invalid, Unavailable

MNEMONIC = "test test test test test test test test test test test junk"
ADMIN_INDEX = 2
FIRST_COMPANY_INDEX = 20


@dataclass(frozen=True)
class Recorded:
    event: Event
    content_hash: bytes
    company: Company


def record_all(
    web3: Web3, documents: Path, store: DocumentStore
) -> tuple[Registry, list[Recorded], int]:
    """Deploy, enrol, record every event; return what was recorded and the height that holds it."""
    admin = derive_account(MNEMONIC, ADMIN_INDEX)
    companies = [
        Company(name, derive_account(MNEMONIC, FIRST_COMPANY_INDEX + i), roles)
        for i, (name, roles) in enumerate(COMPANIES.items())
    ]
    by_role: dict[Role, Company] = {}
    for company in companies:
        for role in company.roles:
            by_role.setdefault(role, company)
    sender = Sender(web3)
    registry = Registry.deploy(sender, admin)
    registry.enrol(admin, companies)

    recorded: list[Recorded] = []
    seen: set[tuple[bytes, bytes]] = set()
    for event in read_folder(documents):
        content_hash = store.put(event.content)
        if (event.event_hash, content_hash) in seen:
            continue
        seen.add((event.event_hash, content_hash))
        company = by_role[role_of(event)]
        registry.record(company, event, content_hash)
        recorded.append(Recorded(event, content_hash, company))
    sender.flush()
    # Not the newest block: where blocks are made on demand, that may be the one that certifies the
    # last change and is itself certified only with the next.
    height = sender.height
    counts = Counter(item.company.name for item in recorded)
    documents_read = len({item.event.document for item in recorded})
    print(f"{len(recorded)} events of {documents_read} documents recorded up to block {height}:")
    for name, count in counts.most_common():
        print(f"  {count:4} by {name}")
    show_refusals(registry, recorded, companies)
    return registry, recorded, height


def show_refusals(registry: Registry, recorded: list[Recorded], companies: list[Company]) -> None:
    """The contract refuses a second record, a role that is not held, and a stranger."""
    item = recorded[0]
    outsider = next(c for c in companies if role_of(item.event) not in c.roles)
    stranger = Company("a stranger", derive_account(MNEMONIC, 99), [])
    attempts = [
        (item.company, item.content_hash, "the same record again"),
        (outsider, bytes(31) + b"\1", "a company without the role"),
        (stranger, bytes(31) + b"\1", "somebody who is not enrolled"),
    ]
    for company, content_hash, what in attempts:
        if not registry.refuses(company, item.event, content_hash):
            raise SystemExit(f"NOT refused: {what}")
        print(f"refused: {what}")


def wait_for_certificate(client: Client, height: int, deadline_s: float = 300) -> None:
    """Wait until a block is certified: by the next one, or by enough work over it."""
    end = time.monotonic() + deadline_s
    while True:
        try:
            client.get_header(height)
            return
        except Unavailable:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)


def prove_all(
    client: Client,
    contract: bytes,
    store: DocumentStore,
    recorded: list[Recorded],
    height: int,
) -> None:
    """Prove each record from its document; exit on the first that is not as it was recorded."""
    wait_for_certificate(client, height)
    for item in recorded:
        store.get(item.content_hash)
        found = prove_record(client, contract, item.event.event_hash, item.content_hash, height)
        company = bytes.fromhex(item.company.account.address[2:])
        if found is None or (found.company, found.role) != (company, role_of(item.event)):
            raise SystemExit(f"NOT proved: {item.event.document} event {item.event.index}")
    root = client.get_header(height).state_root
    print(f"{len(recorded)} records proved against state root 0x{root.hex()} of block {height}")


def show_attacks(
    genesis: bytes, request: Any, contract: bytes, item: Recorded, height: int
) -> None:
    """A changed document, a changed proof and a forged certificate are all noticed; the last only
    where there are certificates."""
    with tempfile.TemporaryDirectory() as folder:
        store = DocumentStore(Path(folder))
        digest = store.put(item.event.content)
        path = store.path_of(digest)
        path.write_bytes(item.event.content.replace(b"2", b"3", 1))
        try:
            store.get(digest)
        except Tampered as error:
            print(f"caught a changed document: {error}")
        else:
            raise SystemExit("NOT caught: a changed document")
        changed = store.put(path.read_bytes())
    client = make_client(genesis, request)
    if prove_record(client, contract, item.event.event_hash, changed, height) is not None:
        raise SystemExit("NOT caught: a changed document under its own hash")
    print("caught a changed document under its own hash: provably nobody recorded it")

    lies: list[tuple[Any, str]] = [(ProofForger(request), "a changed proof")]
    if needs_own_node(genesis):
        print("members of this network trust each other: believed is what the asked node says")
    else:
        lies.append((CertificateForger(request), "a forged certificate"))
    for forger, what in lies:
        try:
            prove_record(
                make_client(genesis, forger),
                contract,
                item.event.event_hash,
                item.content_hash,
                height,
            )
        except Invalid as error:
            print(f"caught {what}: {error}")
        else:
            raise SystemExit(f"NOT caught: {what}")


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rpc", default="http://127.0.0.1:8545", help="where companies record")
    parser.add_argument("--auditor-rpc", help="the node that the auditor asks (default: --rpc)")
    parser.add_argument("--genesis", type=Path, required=True, help="what the auditor trusts")
    parser.add_argument("--documents", type=Path, required=True, help="folder of EPCIS documents")
    parser.add_argument("--store", type=Path, default=Path("documents"), help="off-chain documents")
    options = parser.parse_args(arguments)

    store = DocumentStore(options.store)
    web3 = Web3(Web3.HTTPProvider(options.rpc))
    registry, recorded, height = record_all(web3, options.documents, store)

    # From here on only the genesis file, the documents and the contract's address are believed.
    genesis = options.genesis.read_bytes()
    asked = Web3(Web3.HTTPProvider(options.auditor_rpc or options.rpc))

    def request(method: str, parameters: list[Any]) -> Any:
        answer: Any = asked.provider.make_request(method, parameters)  # type: ignore[arg-type]
        if "error" in answer:
            raise Unavailable(f"{method}: {answer['error'].get('message')}")
        return answer["result"]

    prove_all(make_client(genesis, request), registry.address, store, recorded, height)
    show_attacks(genesis, request, registry.address, recorded[0], height)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
