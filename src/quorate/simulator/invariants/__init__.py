"""What must hold at every step, whatever the faults: watched on the wire, in journals, in output.

Each judge counts by arithmetic of its own, never by the engine's, and knows nothing of simulators:
it is told who said, wrote or made final what, so the journals of a real network can be judged too.
"""

from quorate.simulator.invariants.chain import Chain
from quorate.simulator.invariants.ledger import watch_ledger
from quorate.simulator.invariants.tendermint import TendermintRules
from quorate.simulator.invariants.watch import watch

__all__ = ["Chain", "TendermintRules", "watch", "watch_ledger"]
"""What an engine's author adds: a module with its rules, and a line in `watch`."""
