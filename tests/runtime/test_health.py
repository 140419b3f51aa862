"""What the health port answers."""

import asyncio
from typing import Any

import msgspec
import pytest

from ports import free_port
from quorate.base.errors import Unavailable
from quorate.base.types import Member
from quorate.node.status import NodeStatus, PeerStatus
from quorate.runtime.health import HealthServer, make_app
from quorate.runtime.metrics import Metrics, PeerTraffic
from quorate.runtime.transport import Traffic
from runtime.worlds import STATUS, drive


class Observed:
    def __init__(self, **changes: Any) -> None:
        self.status = msgspec.structs.replace(STATUS, **changes)
        self.metrics = Metrics(self)

    def get_status(self) -> NodeStatus:
        return self.status

    def get_metrics(self) -> bytes:
        return self.metrics.render()

    def get_traffic(self) -> dict[str, PeerTraffic]:
        return {"validator-1": Traffic(10, 20, 1)}

    def get_refused(self) -> dict[str, int]:
        return {"unknown": 2}

    def get_silent_members(self) -> int:
        return 1

    def get_accused(self) -> int:
        return 0

    def get_backlog(self) -> dict[str, int]:
        return {"execute": 3}

    def get_hashes(self) -> int:
        return 5

    def get_syncs(self) -> tuple[int, float]:
        return 5, 0.25


def make_peers(*heights: int) -> list[PeerStatus]:
    return [PeerStatus(bytes([i]) * 20, True, h, 1) for i, h in enumerate(heights)]


def get(observed: Observed, path: str, method: str = "GET") -> tuple[int, bytes]:
    path, _, query = path.partition("?")
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {"type": "http", "method": method, "path": path, "query_string": query.encode()}
    asyncio.run(make_app(observed)(scope, receive, send))
    return sent[0]["status"], sent[1]["body"]


def test_liveness_is_up() -> None:
    for path in ("/liveness", "/healthz", "/health"):
        assert get(Observed(), path) == (200, b'{"status":"UP"}')


def test_readiness_asks_for_a_peer_and_at_most_two_blocks_behind() -> None:
    assert get(Observed(), "/readiness")[0] == 503
    assert get(Observed(peers=make_peers(9)), "/readiness") == (200, b'{"status":"UP"}')
    status, body = get(Observed(peers=make_peers(10)), "/readyz")
    assert (status, msgspec.json.decode(body)) == (
        503,
        {"status": "DOWN", "peers": 1, "blocksBehind": 3},
    )
    assert get(Observed(peers=make_peers(10)), "/readiness?maxBlocksBehind=3")[0] == 200
    assert get(Observed(peers=make_peers(7)), "/readiness?minPeers=2")[0] == 503
    alone = Observed(validators=[Member(STATUS.address, 1)])
    assert get(alone, "/readiness")[0] == 200


def test_wrong_parameter_says_found_and_expected() -> None:
    status, body = get(Observed(), "/readiness?minPeers=many")
    assert status == 400
    assert body == b'{"error":"minPeers: found \'many\', expected a number"}'


def test_unknown_path_and_method_are_refused() -> None:
    assert get(Observed(), "/nothing")[0] == 404
    assert get(Observed(), "/liveness", "POST")[0] == 405


def test_status_has_the_fields_that_tools_read() -> None:
    status, body = get(Observed(), "/status")
    assert status == 200
    told = msgspec.json.decode(body)
    assert told["sync_info"]["latest_block_height"] == "7"
    assert told["sync_info"]["catching_up"] is False
    assert told["validator_info"]["address"] == "0x" + STATUS.address.hex()
    assert told["consensus"]["why_stalled"] == "waits for a proposal"


def test_metrics_have_the_conventional_names() -> None:
    counters = {"transactions_refused": 4, "engine_dropped_late": 3, "engine_dropped_stale": 2}
    observed = Observed(peers=make_peers(9), counters=counters)
    observed.metrics.on_timer(7, 0)
    observed.metrics.on_block(3, 1000)
    observed.metrics.on_block(0, 64, missed=True)
    text = get(observed, "/metrics")[1].decode()
    for line in (
        "ethereum_blockchain_height 7.0",
        "ethereum_best_known_block_number 9.0",
        "ethereum_peer_count 1.0",
        "quorate_consensus_height 7.0",
        "quorate_consensus_rounds 0.0",
        "quorate_consensus_missing_validators 1.0",
        "quorate_consensus_block_interval_seconds_count 1.0",
        "quorate_consensus_round_duration_seconds_count 1.0",
        "quorate_consensus_block_size_bytes_count 2.0",
        "quorate_consensus_total_txs 3.0",
        'quorate_p2p_peer_receive_bytes_total{peer="validator-1"} 10.0',
        'quorate_p2p_peer_send_bytes_total{peer="validator-1"} 20.0',
        "quorate_mempool_size 1.0",
        "quorate_mempool_size_bytes 3.0",
        "quorate_mempool_failed_txs 4.0",
        "quorate_consensus_late_votes 5.0",
        "quorate_consensus_duplicate_vote 0.0",
        "quorate_consensus_validator_missed_blocks 1.0",
        'quorate_lane_backlog{lane="execute"} 3.0',
        "quorate_journal_syncs_total 5.0",
    ):
        assert line in text.splitlines()


def test_server_answers_over_http_and_a_taken_port_is_named() -> None:
    async def run() -> None:
        port = free_port()
        server = HealthServer(Observed(), "127.0.0.1", port)
        await server.start()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /liveness HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 200")
        assert answer.endswith(b'{"status":"UP"}')
        with pytest.raises(Unavailable, match=f"metrics on 127.0.0.1:{port}: "):
            await HealthServer(Observed(), "127.0.0.1", port).start()
        writer.close()
        await server.stop()

    drive(run())
