"""web3.py's own tests of its modules, which it runs against geth, pointed at networks.

They want an account that the node signs for, transactions that wait for a while before they are in
a block, and the chain id of geth's fixture, which is that of these networks. They run in two forms:

* `dev`: a network for development has all of that: its nodes sign for the known accounts, and
  blocks wait until they are asked for while a test changes what waits.
* `wallet`: on any other network nodes hold no users' keys, so that a middleware of web3.py signs.
  What cannot pass there is named in `OMITTED`, with its reason.
"""

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from web3 import AsyncHTTPProvider, AsyncWeb3, Web3
from web3._utils.contract_sources.contract_data.emitter_contract import EMITTER_CONTRACT_DATA
from web3._utils.contract_sources.contract_data.math_contract import MATH_CONTRACT_DATA
from web3._utils.contract_sources.contract_data.offchain_lookup import OFFCHAIN_LOOKUP_DATA
from web3._utils.contract_sources.contract_data.panic_errors_contract import (
    PANIC_ERRORS_CONTRACT_DATA,
)
from web3._utils.contract_sources.contract_data.revert_contract import REVERT_CONTRACT_DATA
from web3._utils.contract_sources.contract_data.storage_contract import STORAGE_CONTRACT_DATA
from web3._utils.module_testing import (
    AsyncEthModuleTest,
    AsyncNetModuleTest,
    EthModuleTest,
    GoEthereumAsyncDebugModuleTest,
    GoEthereumAsyncTxPoolModuleTest,
    GoEthereumDebugModuleTest,
    GoEthereumTxPoolModuleTest,
    NetModuleTest,
    Web3ModuleTest,
)
from web3._utils.module_testing.utils import RequestMocker
from web3.middleware import SignAndSendRawMiddlewareBuilder, Web3Middleware
from web3.types import BlockData

from clients.network import Endpoint, account_at, network_of

pytestmark = pytest.mark.network

ACCOUNT = account_at(0)


GETH_CHAIN_ID = 131277322940537
GENEROUS = 10**10
"""A gas price in wei above the base fee of these blocks."""
UNLOCKED = "asks the node to sign: nodes hold no users' keys"
RACES = "changes a transaction before it is in a block, which is a race against the next block"
SIGNER = "the middleware that signs here fails in it, before anything reaches the node"

OMITTED = {
    "test_eth_sign": UNLOCKED,
    "test_eth_sign_ens_names": UNLOCKED,
    "test_eth_sign_typed_data": UNLOCKED,
    "test_invalid_eth_sign_typed_data": UNLOCKED,
    "test_eth_sign_transaction": UNLOCKED,
    "test_eth_sign_transaction_legacy": UNLOCKED,
    "test_eth_sign_transaction_hex_fees": UNLOCKED,
    "test_eth_sign_transaction_ens_names": UNLOCKED,
    "test_eth_modify_transaction": RACES,
    "test_eth_modify_transaction_legacy": RACES,
    "test_eth_replace_transaction": RACES,
    "test_eth_replace_transaction_legacy": RACES,
    "test_eth_replace_transaction_underpriced": RACES,
    "test_eth_replace_transaction_incorrect_nonce": RACES,
    "test_eth_replace_transaction_gas_price_too_low": RACES,
    "test_eth_replace_transaction_gas_price_defaulting_minimum": RACES,
    "test_eth_replace_transaction_gas_price_defaulting_strategy_higher": RACES,
    "test_eth_replace_transaction_gas_price_defaulting_strategy_lower": RACES,
    "test_eth_get_transaction_receipt_unmined": RACES,
    "test_eth_wait_for_transaction_receipt_unmined": RACES,
    "test_gas_price_from_strategy_bypassed_for_dynamic_fee_txn": SIGNER,
    "test_sign_authorization_send_raw_and_send_set_code_transactions": SIGNER,
}
"""Names of tests that are not run in the form `wallet`, with the reason; with QUORATE_TEST_ALL they
are.
"""
NOWHERE = {
    "TestEth.test_invalid_eth_sign_typed_data": "expects an error that web3.py does not make of a "
    "node's refusal",
    "TestAsyncEth.test_invalid_eth_sign_typed_data": "web3.py fails before it asks the node",
    "TestAsyncEth.test_eth_sign_typed_data": "web3.py fails before it asks the node",
}
"""The same for the form `dev`."""
FORMS = os.environ.get("QUORATE_TEST_FORM", "wallet,dev").split(",")


class Wallet(Web3Middleware):
    """Names its account when asked for accounts, as wallets in front of a node do."""

    def answer(self, method: Any) -> Any:
        return {"jsonrpc": "2.0", "id": 1, "result": [ACCOUNT.address]}

    def wrap_make_request(self, make_request: Any) -> Any:
        def ask(method: Any, params: Any) -> Any:
            return self.answer(method) if method == "eth_accounts" else make_request(method, params)

        return ask

    async def async_wrap_make_request(self, make_request: Any) -> Any:
        async def ask(method: Any, params: Any) -> Any:
            if method == "eth_accounts":
                return self.answer(method)
            return await make_request(method, params)

        return ask


class TestEth(EthModuleTest):
    def test_eth_getBlockByNumber_pending(  # type: ignore[override]
        self, w3: Web3, empty_block: BlockData, form: str
    ) -> None:
        if form == "dev":
            super().test_eth_getBlockByNumber_pending(w3, empty_block)
            return
        # Here blocks come by themselves, between two questions, too.
        before = w3.eth.block_number
        pending = w3.eth.get_block("pending")["number"]
        assert before < pending <= w3.eth.block_number + 1


class TestAsyncEth(AsyncEthModuleTest):
    pass


class TestNet(NetModuleTest):
    pass


class TestAsyncNet(AsyncNetModuleTest):
    pass


class TestWeb3(Web3ModuleTest):
    def _check_web3_client_version(self, client_version: str) -> None:
        named = ("quorate", "anvil", "anvil-compatible")
        assert client_version.partition("/")[0].lower() in named


class TestDebug(GoEthereumDebugModuleTest):
    pass


class TestAsyncDebug(GoEthereumAsyncDebugModuleTest):
    pass


class TestTxPool(GoEthereumTxPoolModuleTest):
    pass


class TestAsyncTxPool(GoEthereumAsyncTxPoolModuleTest):
    pass


# Of the session, so that all tests of one form come before those of the next, on one network.
@pytest.fixture(scope="session", params=FORMS)
def form(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def network(form: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    """Four validators with geth's chain id: for development, or with ten blocks a second."""
    options = {"wallet": ["--block-time", "100"], "dev": ["--dev"]}[form]
    folder = tmp_path_factory.mktemp("modules")
    yield from network_of(folder, "--chain-id", str(GETH_CHAIN_ID), *options)


@pytest.fixture(autouse=True)
def omitted(form: str, request: pytest.FixtureRequest) -> Iterator[None]:
    """Leave out what cannot pass, and give each test the network that it wants."""
    name = request.node.originalname
    reason = OMITTED.get(name) or OMITTED.get(name.replace("test_async_", "test_", 1))
    omitted = reason if form == "wallet" else NOWHERE.get(f"{request.cls.__name__}.{name}")
    if omitted is not None and "QUORATE_TEST_ALL" not in os.environ:
        pytest.skip(omitted)
    if form == "wallet" or (reason != RACES and "sign_authorization" not in name):
        yield
        return
    w3: Web3 = request.getfixturevalue("w3")
    request.getfixturevalue("chain")
    if reason == RACES:
        # What waits is in no block before the test has changed it.
        do(w3, "evm_setAutomine", False)
        yield
        do(w3, "evm_setAutomine", True)
    else:
        # Of this test there are two, and each counts from nothing.
        start = do(w3, "evm_snapshot")
        yield
        do(w3, "evm_revert", start)


def do(w3: Web3, method: Any, *params: object) -> Any:
    answer = w3.provider.make_request(method, params)
    assert "error" not in answer, answer
    return answer["result"]


@pytest.fixture(autouse=True)
def busy(form: str, request: pytest.FixtureRequest, omitted: None) -> Iterator[None]:
    """Fill blocks while a test waits for a `latest` that has a transaction: it sends one, and is
    the latest block for a tenth of a second only.
    """
    if form == "dev" or "raw_transaction_by_block" not in request.node.name:
        yield
        return
    request.getfixturevalue("chain")
    network: Endpoint = request.getfixturevalue("network")
    w3 = Web3(Web3.HTTPProvider(network.http[-1], request_kwargs={"timeout": 30}))
    sender, done = account_at(1), threading.Event()

    def send() -> None:
        while not done.wait(0.05):
            # Asked each time: what an earlier test sent may wait yet.
            nonce = w3.eth.get_transaction_count(sender.address, "pending")
            transfer = {"to": sender.address, "value": 1, "gas": 21_000, "gasPrice": GENEROUS}
            signed = sender.sign_transaction(transfer | {"nonce": nonce, "chainId": GETH_CHAIN_ID})
            w3.eth.send_raw_transaction(signed.raw_transaction)

    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(send)
        yield
        done.set()
        sending.result(timeout=60)


# ---- what is asked, and by whom


@pytest.fixture(scope="module")
def w3(form: str, network: Endpoint) -> Web3:
    made = Web3(Web3.HTTPProvider(network.http[0], request_kwargs={"timeout": 30}))
    if form == "dev":
        return made
    made.middleware_onion.inject(SignAndSendRawMiddlewareBuilder.build(ACCOUNT), layer=0)
    made.middleware_onion.inject(Wallet, layer=0)
    return made


@pytest.fixture
def async_w3(form: str, network: Endpoint) -> AsyncWeb3:
    # For each test anew: its connections belong to the loop of that test.
    made = AsyncWeb3(AsyncHTTPProvider(network.http[0]))
    if form == "dev":
        return made
    made.middleware_onion.inject(SignAndSendRawMiddlewareBuilder.build(ACCOUNT), layer=0)
    made.middleware_onion.inject(Wallet, layer=0)
    return made


@pytest.fixture(scope="session")
def keyfile_account_pkey() -> str:
    return ACCOUNT.key.to_0x_hex()


@pytest.fixture(scope="session")
def keyfile_account_address() -> str:
    return ACCOUNT.address


@pytest.fixture(params=["text", "bytes"])
def keyfile_account_address_dual_type(request: pytest.FixtureRequest) -> str:
    return ACCOUNT.address


async_keyfile_account_address = keyfile_account_address
async_keyfile_account_address_dual_type = keyfile_account_address


@pytest.fixture
def request_mocker() -> type[RequestMocker]:
    return RequestMocker


@pytest.fixture(scope="session")
def skip_if_testrpc() -> Callable[[Web3], None]:
    return lambda _: None


@pytest.fixture(scope="session")
def async_skip_if_testrpc() -> Callable[[AsyncWeb3], None]:
    return lambda _: None


# ---- what is on the chain


class Chain:
    """The contracts and blocks that the tests speak of."""

    def __init__(self, w3: Web3) -> None:
        self.w3 = w3
        self.deployments: dict[str, Any] = {}
        for name, kinds in CONTRACTS.items():
            made = w3.eth.contract(**kinds).constructor().transact({"from": ACCOUNT.address})
            self.deployments[name] = made
        for made in self.deployments.values():
            self.wait(made)
        # A test compares the balance of the genesis block's miner, which is nobody, with what it
        # was then.
        self.wait(w3.eth.send_transaction({"from": ACCOUNT.address, "to": NOBODY, "value": 1}))
        # Alone in their blocks, as the tests want them.
        self.mined = w3.eth.send_transaction(
            {"from": ACCOUNT.address, "to": ACCOUNT.address, "value": 1, "gas": 21_000}
        )
        self.block_with_txn = self.wait(self.mined)
        emitter = self.get("emitter")
        self.with_log = emitter.functions.logDouble(LOG_DOUBLE_WITH_INDEX, 12345, 54321).transact(
            {"from": ACCOUNT.address}
        )
        self.block_with_log = self.wait(self.with_log)

    def wait(self, transaction: Any) -> Any:
        """Return the block that a transaction got into."""
        receipt = self.w3.eth.wait_for_transaction_receipt(
            transaction, timeout=120, poll_latency=0.02
        )
        assert receipt["status"] == 1
        return self.w3.eth.get_block(receipt["blockHash"])

    def find_empty_block(self) -> Any:
        for number in range(1, self.w3.eth.block_number + 1):
            block = self.w3.eth.get_block(number)
            if not block["transactions"]:
                return block
        return self.w3.eth.get_block(0)

    def get(self, name: str, w3: Any = None) -> Any:
        receipt = self.w3.eth.get_transaction_receipt(self.deployments[name])
        kinds = CONTRACTS[name]
        return (w3 or self.w3).eth.contract(address=receipt["contractAddress"], **kinds)


NOBODY = "0x" + "00" * 20
LOG_DOUBLE_WITH_INDEX = 9
CONTRACTS: dict[str, Any] = {
    "math": MATH_CONTRACT_DATA,
    "emitter": EMITTER_CONTRACT_DATA,
    "revert": REVERT_CONTRACT_DATA,
    "storage": STORAGE_CONTRACT_DATA,
    "panic_errors": PANIC_ERRORS_CONTRACT_DATA,
    "offchain_lookup": OFFCHAIN_LOOKUP_DATA,
}


@pytest.fixture(scope="module")
def chain(w3: Web3) -> Chain:
    return Chain(w3)


@pytest.fixture(scope="module")
def empty_block(chain: Chain) -> Any:
    return chain.find_empty_block()


@pytest.fixture(scope="module")
def block_with_txn(chain: Chain) -> Any:
    return chain.block_with_txn


@pytest.fixture(scope="module")
def block_with_txn_with_log(chain: Chain) -> Any:
    return chain.block_with_log


@pytest.fixture(scope="module")
def mined_txn_hash(chain: Chain) -> str:
    return str(chain.mined.to_0x_hex())


@pytest.fixture(scope="module")
def txn_hash_with_log(chain: Chain) -> str:
    return str(chain.with_log.to_0x_hex())


@pytest.fixture(scope="module")
def math_contract_deploy_txn_hash(chain: Chain) -> str:
    return str(chain.deployments["math"].to_0x_hex())


async_empty_block = empty_block
async_block_with_txn = block_with_txn
async_block_with_txn_with_log = block_with_txn_with_log


def contract(name: str) -> Any:
    @pytest.fixture(scope="module")
    def made(chain: Chain) -> Any:
        return chain.get(name)

    return made


def async_contract(name: str) -> Any:
    @pytest.fixture
    def made(chain: Chain, async_w3: AsyncWeb3) -> Any:
        return chain.get(name, async_w3)

    return made


def address(name: str) -> Any:
    @pytest.fixture(scope="module", params=["text", "bytes"])
    def made(chain: Chain, request: pytest.FixtureRequest) -> Any:
        found = chain.get(name).address
        return bytes.fromhex(found[2:]) if request.param == "bytes" else found

    return made


math_contract = contract("math")
emitter_contract = contract("emitter")
revert_contract = contract("revert")
storage_contract = contract("storage")
panic_errors_contract = contract("panic_errors")
offchain_lookup_contract = contract("offchain_lookup")
async_math_contract = async_contract("math")
async_emitter_contract = async_contract("emitter")
async_revert_contract = async_contract("revert")
async_storage_contract = async_contract("storage")
async_panic_errors_contract = async_contract("panic_errors")
async_offchain_lookup_contract = async_contract("offchain_lookup")
math_contract_address = async_math_contract_address = address("math")
emitter_contract_address = async_emitter_contract_address = address("emitter")
