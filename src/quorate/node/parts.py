"""What the parts of a node that talk to peers have in common."""

from quorate.ledger.application import Application
from quorate.node.execution import Execution
from quorate.node.guard import GuardedPort
from quorate.node.interpreter import Interpreter
from quorate.node.peers import Peer, Peers
from quorate.node.settings import Settings

__all__ = ["Parts"]


class Parts:
    """The node around one of its parts."""

    __slots__ = (
        "application",
        "counters",
        "execution",
        "interpreter",
        "peers",
        "port",
        "settings",
    )

    def __init__(
        self,
        port: GuardedPort,
        settings: Settings,
        counters: dict[str, int],
        application: Application,
        peers: Peers,
        execution: Execution,
        interpreter: Interpreter,
    ) -> None:
        self.port, self.settings, self.counters = port, settings, counters
        self.application, self.peers = application, peers
        self.execution, self.interpreter = execution, interpreter

    def admit(self, peer: Peer, limit: int) -> bool:
        """Whether a peer may be served something more; whoever is told so says when it is done."""
        if peer.serving >= limit:
            self.peers.strike(peer, "requests")
            return False
        peer.serving += 1
        return True
