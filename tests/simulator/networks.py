"""Plans of small networks for tests."""

from typing import Any

from quorate.crypto.hashes import keccak256
from quorate.simulator.plan import MemberPlan, Plan, Profile, get_profile


def make_plan(seed: int = 1, profile: Profile | str = "none", count: int = 4, **more: Any) -> Plan:
    """Return a plan of equal members."""
    found = get_profile(profile) if isinstance(profile, str) else profile
    addresses = sorted(keccak256(b"simulated %d" % i)[12:] for i in range(count))
    machines = [MemberPlan(f"validator-{i}", a, 1) for i, a in enumerate(addresses)]
    return Plan(seed=seed, machines=machines, profile=found, **more)
