"""The TransactionTests of ethereum-tests: what decodes, who sent it, what it costs at least."""

import json

from kernel.vectors import vectors
from quorate._kernel import Rejected, inspect_transaction

CHAIN_ID = 1
# Prices of 2^128 wei per gas and more are refused when decoding: no balance could pay them.
PRICES_TOO_HIGH = frozenset(
    {"GasLimitPriceProductOverflowtMinusOne", "TransactionWithHighGasPrice", "V_equals38"}
)


def test_transaction_tests_agree() -> None:
    folder = vectors("ethereum-tests/TransactionTests")
    ran, wrong = 0, []
    for path in sorted(folder.rglob("*.json")):
        for name, case in json.loads(path.read_bytes()).items():
            ran += 1
            expected = case["result"].get("Cancun", {"exception": "fork absent"})
            raw = bytes.fromhex(case["txbytes"][2:])
            try:
                hash_, sender, gas = inspect_transaction(raw, "Cancun", CHAIN_ID)
            except Rejected as error:
                if "exception" not in expected and name not in PRICES_TOO_HIGH:
                    wrong.append(f"{path.parent.name}/{name}: {error}, expected {expected}")
                continue
            found = {
                "hash": "0x" + hash_.hex(),
                "sender": "0x" + sender.hex(),
                "intrinsicGas": hex(gas),
            }
            if "exception" in expected or any(
                int(found[key], 16) != int(value, 16) for key, value in expected.items()
            ):
                wrong.append(f"{path.parent.name}/{name}: {found}, expected {expected}")
    print(f"TransactionTests: {ran} verdicts")
    assert ran > 0
    assert not wrong, "\n".join(wrong[:20])
