// viem does everything that a DApp does. Run by tests/clients/test_javascript.py.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import {
  BaseError,
  ContractFunctionRevertedError,
  FeeCapTooLowError,
  InsufficientFundsError,
  IntrinsicGasTooLowError,
  MethodNotFoundRpcError,
  NonceTooHighError,
  NonceTooLowError,
  TransactionReceiptNotFoundError,
  concat,
  createPublicClient,
  createWalletClient,
  defineChain,
  encodeFunctionData,
  http,
  keccak256,
  parseAbiItem,
  parseEther,
  parseGwei,
  publicActions,
  webSocket,
  zeroHash,
} from "viem";
import { generatePrivateKey, mnemonicToAccount, privateKeyToAccount } from "viem/accounts";

import { CHAIN_ID, HTTP, MNEMONIC, WS, loadArtefact, until } from "./network.mjs";

const chain = defineChain({
  id: CHAIN_ID,
  name: "Quorate",
  nativeCurrency: { name: "Ether", symbol: "ETH", decimals: 18 },
  rpcUrls: { default: { http: [HTTP], webSocket: [WS] } },
});

// Accounts 5 and 6 are this file's own, so that nonces stay its own when files run side by side.
const alice = mnemonicToAccount(MNEMONIC, { addressIndex: 5 });
const bob = mnemonicToAccount(MNEMONIC, { addressIndex: 6 });
const options = { chain, pollingInterval: 50, cacheTime: 0 };
const PATIENCE_MS = 60_000;
const ONCE = { retryCount: 0, timeout: PATIENCE_MS };
const client = createPublicClient({ ...options, transport: http(HTTP, ONCE) });
const batching = createPublicClient({
  ...options,
  transport: http(HTTP, { batch: true, timeout: PATIENCE_MS }),
});
const walletOf = (account) =>
  createWalletClient({ ...options, account, transport: http(HTTP, ONCE) }).extend(publicActions);
const wallet = walletOf(alice);
const bobs = walletOf(bob);

let socket;
let probe;

async function mined(hash) {
  return client.waitForTransactionReceipt({ hash, timeout: PATIENCE_MS });
}

async function deploy(name, args = [], value = 0n) {
  const { abi, bytecode } = loadArtefact(name);
  const receipt = await mined(await wallet.deployContract({ abi, bytecode, args, value }));
  assert.equal(receipt.status, "success");
  return { address: receipt.contractAddress, abi };
}

const call = (contract, functionName, args = [], more = {}) =>
  client.readContract({ ...contract, functionName, args, ...more });

// Simulated first, as DApps do, so that a revert is seen with its error before anything is sent.
async function send(from, contract, functionName, args = []) {
  const body = { ...contract, functionName, args, account: from.account };
  const { request } = await client.simulateContract(body);
  return mined(await from.writeContract(request));
}

async function failure(promise) {
  try {
    await promise;
  } catch (error) {
    assert.ok(error instanceof BaseError, String(error));
    return error;
  }
  throw new Error("expected an error, got none");
}

const hasCause = (error, type) => error.walk((cause) => cause instanceof type) !== null;

before(async () => {
  socket = createPublicClient({ ...options, transport: webSocket(WS, { timeout: PATIENCE_MS }) });
  probe = await deploy("Probe", [7n], 5n);
});

after(async () => {
  (await socket.transport.getRpcClient()).close();
});

describe("network and blocks", () => {
  test("names the chain, its head and its fees", async () => {
    assert.equal(await client.getChainId(), CHAIN_ID);
    assert.ok((await client.getBlockNumber()) >= 1n);
    const fees = await client.estimateFeesPerGas();
    assert.ok(fees.maxFeePerGas >= fees.maxPriorityFeePerGas);
    assert.ok((await client.getGasPrice()) >= 0n);
  });

  test("reads blocks by number, tag and hash", async () => {
    const latest = await client.getBlock({ includeTransactions: true });
    assert.equal((await client.getBlock({ blockHash: latest.hash })).number, latest.number);
    for (const blockTag of ["earliest", "latest", "safe", "finalized"]) {
      assert.ok((await client.getBlock({ blockTag })).number >= 0n);
    }
    const missing = await failure(client.getBlock({ blockNumber: latest.number + 1_000_000n }));
    assert.equal(missing.name, "BlockNotFoundError");
    const count = await client.getBlockTransactionCount({ blockNumber: latest.number });
    assert.equal(count, latest.transactions.length);
  });

  test("reads the history of fees", async () => {
    const history = await client.getFeeHistory({ blockCount: 2, rewardPercentiles: [25, 75] });
    const blocks = history.gasUsedRatio.length;
    assert.equal(history.baseFeePerGas.length, blocks + 1);
    assert.equal(history.reward.length, blocks);
    assert.equal(history.reward[0].length, 2);
  });

  test("batches many requests into one", async () => {
    const addresses = Array.from({ length: 30 }, (_, i) =>
      mnemonicToAccount(MNEMONIC, { addressIndex: i % 10 }).address,
    );
    const balances = await Promise.all(addresses.map((address) => batching.getBalance({ address })));
    assert.equal(balances.length, 30);
    assert.equal(balances[0], balances[10]);
  });
});

describe("transactions", () => {
  test("accepts types 0, 1 and 2", async () => {
    const accessList = [{ address: probe.address, storageKeys: [zeroHash] }];
    const bodies = [
      { type: "legacy", gasPrice: parseGwei("20") },
      { type: "eip2930", gasPrice: parseGwei("20"), accessList },
      { type: "eip1559", maxFeePerGas: parseGwei("20"), maxPriorityFeePerGas: 1n },
    ];
    for (const body of bodies) {
      const hash = await wallet.sendTransaction({ to: bob.address, value: 1n, ...body });
      const receipt = await mined(hash);
      assert.equal(receipt.status, "success");
      assert.equal(receipt.type, body.type);
      const found = await client.getTransaction({ hash });
      assert.equal(found.type, body.type);
      assert.equal(found.blockHash, receipt.blockHash);
      assert.ok((await client.getTransactionConfirmations({ hash })) >= 1n);
    }
  });

  test("accepts type 4 and delegates the account (EIP-7702)", async () => {
    const account = privateKeyToAccount(generatePrivateKey());
    const authorization = await walletOf(account).signAuthorization({
      contractAddress: probe.address,
      executor: alice.address,
    });
    const hash = await wallet.sendTransaction({
      authorizationList: [authorization],
      to: account.address,
      data: encodeFunctionData({ ...probe, functionName: "setNumber", args: [99n, "delegated"] }),
      gas: 200_000n,
    });
    const receipt = await mined(hash);
    assert.equal(receipt.status, "success");
    assert.equal(receipt.type, "eip7702");
    const code = await client.getCode({ address: account.address });
    assert.equal(code, concat(["0xef0100", probe.address]).toLowerCase());
    const delegated = { address: account.address, abi: probe.abi };
    assert.equal(await call(delegated, "number"), 99n);
  });

  test("moves ether to a fresh account", async () => {
    const fresh = privateKeyToAccount(generatePrivateKey()).address;
    const request = await wallet.prepareTransactionRequest({ to: fresh, value: parseEther("2") });
    assert.equal(request.gas, 21_000n);
    const serializedTransaction = await wallet.signTransaction(request);
    const hash = await client.sendRawTransaction({ serializedTransaction });
    assert.equal(hash, keccak256(serializedTransaction));
    const receipt = await mined(hash);
    assert.equal(await client.getBalance({ address: fresh }), parseEther("2"));
    const blockNumber = receipt.blockNumber - 1n;
    assert.equal(await client.getBalance({ address: fresh, blockNumber }), 0n);
  });

  test("waits for the receipt inside the node (eth_sendRawTransactionSync)", async () => {
    const request = await wallet.prepareTransactionRequest({ to: bob.address, value: 1n });
    const serializedTransaction = await wallet.signTransaction(request);
    const receipt = await client.sendRawTransactionSync({
      serializedTransaction,
      timeout: PATIENCE_MS,
    });
    assert.equal(receipt.status, "success");
    assert.equal(receipt.transactionHash, keccak256(serializedTransaction));
  });

  test("has no receipt for an unknown transaction", async () => {
    const error = await failure(client.getTransactionReceipt({ hash: zeroHash }));
    assert.ok(error instanceof TransactionReceiptNotFoundError);
  });
});

describe("contracts", () => {
  test("deploys, calls and reads storage, code and proofs", async () => {
    const { address } = probe;
    assert.equal(await call(probe, "number"), 7n);
    assert.equal(await call(probe, "owner"), alice.address);
    assert.equal(BigInt(await client.getStorageAt({ address, slot: zeroHash })), 7n);
    assert.notEqual(await client.getCode({ address }), undefined);
    const block = await client.getBlock();
    const proof = await client.getProof({
      address,
      storageKeys: [zeroHash],
      blockNumber: block.number,
    });
    assert.equal(proof.balance, 5n);
    assert.equal(proof.storageProof[0].value, 7n);
    assert.equal(keccak256(proof.accountProof[0]), block.stateRoot);
  });

  test("writes, and calls at an older block", async () => {
    const contract = await deploy("Probe", [1n]);
    const receipt = await send(wallet, contract, "setNumber", [2n, "two"]);
    assert.equal(await call(contract, "number"), 2n);
    const older = { blockNumber: receipt.blockNumber - 1n };
    assert.equal(await call(contract, "number", [], older), 1n);
  });

  test("finds past events by their arguments", async () => {
    const contract = await deploy("Probe", [1n]);
    const { blockNumber } = await send(wallet, contract, "setMany", [10n, 5n]);
    await send(bobs, contract, "setMany", [100n, 2n]);
    const events = { ...contract, eventName: "NumberChanged", fromBlock: blockNumber };
    assert.equal((await client.getContractEvents(events)).length, 7);
    const byBob = await client.getContractEvents({ ...events, args: { by: bob.address } });
    assert.deepEqual(byBob.map((log) => log.args.number), [100n, 101n]);
    const either = await client.getContractEvents({ ...events, args: { number: [11n, 101n] } });
    assert.equal(either.length, 2);
  });

  test("polls filters for logs and blocks", async () => {
    const contract = await deploy("Probe", [1n]);
    const fromBlock = await client.getBlockNumber();
    const event = { ...contract, eventName: "NumberChanged" };
    const logs = await client.createContractEventFilter({ ...event, fromBlock });
    const blocks = await client.createBlockFilter();
    const { blockHash } = await send(wallet, contract, "setNumber", [5n, "filtered"]);
    const changes = await until(async () => {
      const found = await client.getFilterChanges({ filter: logs });
      return found.length > 0 && found;
    }, "a change of the log filter");
    assert.equal(changes[0].args.number, 5n);
    assert.equal((await client.getFilterLogs({ filter: logs })).length, 1);
    assert.deepEqual(await client.getFilterChanges({ filter: logs }), []);
    assert.ok((await client.getFilterChanges({ filter: blocks })).includes(blockHash));
    assert.equal(await client.uninstallFilter({ filter: logs }), true);
    assert.equal(await client.uninstallFilter({ filter: logs }), false);
    await client.uninstallFilter({ filter: blocks });
  });

  test("decodes reasons, custom errors and panics", async () => {
    const reverted = async (functionName, args = []) => {
      const body = { ...probe, functionName, args, account: bob };
      const error = await failure(client.simulateContract(body));
      return error.walk((cause) => cause instanceof ContractFunctionRevertedError);
    };
    assert.equal((await reverted("failWithReason")).reason, "not today");
    const custom = await reverted("failWithError");
    assert.equal(custom.data.errorName, "Unwelcome");
    assert.deepEqual(custom.data.args, [bob.address, 7n]);
    assert.match((await reverted("failWithPanic", [0n])).reason, /Division or modulo by zero/);
  });

  test("estimates gas that suffices, and an access list that is used", async () => {
    const contract = await deploy("Probe", [0n]);
    const body = { ...contract, functionName: "forward", args: [6n], account: alice };
    const gas = await client.estimateContractGas(body);
    const receipt = await mined(await wallet.writeContract({ ...body, gas }));
    assert.equal(receipt.status, "success");
    assert.ok(receipt.gasUsed <= gas);
  });

  test("overrides state for one call", async () => {
    const stateOverride = [
      { address: probe.address, stateDiff: [{ slot: zeroHash, value: `0x${"11".repeat(32)}` }] },
    ];
    const number = await call(probe, "number", [], { stateOverride });
    assert.equal(number, BigInt(`0x${"11".repeat(32)}`));
    assert.equal(await call(probe, "number"), 7n);
  });
});

describe("errors as viem classifies them", () => {
  const base = { to: bob.address, value: 1n, gas: 21_000n, type: "eip1559" };
  const fees = { maxFeePerGas: parseGwei("20"), maxPriorityFeePerGas: 1n };
  const attempt = async (from, body) => {
    const nonce = await client.getTransactionCount({ address: from.account.address });
    return from.sendTransaction({ ...base, ...fees, nonce, ...body });
  };

  test("NonceTooLowError", async () => {
    const error = await failure(attempt(wallet, { nonce: 0 }));
    assert.ok(hasCause(error, NonceTooLowError), error.message);
    assert.ok(!hasCause(error, NonceTooHighError));
  });

  test("InsufficientFundsError", async () => {
    const poor = walletOf(privateKeyToAccount(generatePrivateKey()));
    const error = await failure(attempt(poor, { value: parseEther("1") }));
    assert.ok(hasCause(error, InsufficientFundsError), error.message);
  });

  test("IntrinsicGasTooLowError", async () => {
    const error = await failure(attempt(wallet, { gas: 20_000n }));
    assert.ok(hasCause(error, IntrinsicGasTooLowError), error.message);
  });

  test("FeeCapTooLowError from a call below the base fee", async (context) => {
    const { baseFeePerGas } = await client.getBlock();
    if (baseFeePerGas <= 1n) return context.skip("gas is free here");
    const body = { account: alice, to: bob.address, maxFeePerGas: 1n, maxPriorityFeePerGas: 0n };
    const error = await failure(client.call(body));
    assert.ok(hasCause(error, FeeCapTooLowError), error.message);
  });

  test("replacement underpriced, then replaced", async () => {
    const nonce = await client.getTransactionCount({ address: bob.address });
    // The gap keeps the first one waiting, so that the second one meets it in the pool.
    const waiting = { to: alice.address, nonce: nonce + 1, maxPriorityFeePerGas: parseGwei("1") };
    await attempt(bobs, { ...waiting });
    const error = await failure(attempt(bobs, { ...waiting, value: 2n }));
    assert.match(error.message, /replacement transaction underpriced/);
    const better = { maxFeePerGas: parseGwei("30"), maxPriorityFeePerGas: parseGwei("2") };
    const replaced = await attempt(bobs, { ...waiting, ...better, value: 3n });
    await mined(await attempt(bobs, { to: alice.address, nonce }));
    assert.equal((await mined(replaced)).status, "success");
    assert.equal((await client.getTransaction({ hash: replaced })).value, 3n);
  });

  test("a transaction that is known already", async () => {
    const nonce = await client.getTransactionCount({ address: bob.address });
    const request = { ...base, ...fees, chainId: CHAIN_ID, to: alice.address };
    const serializedTransaction = await bob.signTransaction({ ...request, nonce: nonce + 1 });
    await client.sendRawTransaction({ serializedTransaction });
    const error = await failure(client.sendRawTransaction({ serializedTransaction }));
    assert.match(error.message, /already (known|imported)/);
    await mined(await attempt(bobs, { to: alice.address, nonce }));
    await mined(keccak256(serializedTransaction));
  });

  test("an unknown method", async () => {
    const error = await failure(client.request({ method: "eth_noSuchMethod" }));
    assert.ok(hasCause(error, MethodNotFoundRpcError), error.message);
  });
});

describe("subscriptions over WebSocket", () => {
  test("tells of new blocks", async () => {
    const seen = [];
    const stop = socket.watchBlockNumber({ onBlockNumber: (number) => seen.push(number) });
    await socket.getBlockNumber();
    const { blockNumber } = await mined(
      await wallet.sendTransaction({ to: bob.address, value: 1n }),
    );
    await until(() => seen.some((number) => number >= blockNumber), "a new block");
    stop();
  });

  test("tells of a contract's events, by argument", async () => {
    const contract = await deploy("Probe", [0n]);
    const heard = [];
    const stop = socket.watchContractEvent({
      ...contract,
      eventName: "NumberChanged",
      args: { number: 78n },
      onLogs: (logs) => heard.push(...logs),
    });
    // An answer on the same socket means that the subscription before it has arrived.
    await socket.getBlockNumber();
    await send(wallet, contract, "setNumber", [77n, "not this one"]);
    await send(wallet, contract, "setNumber", [78n, "this one"]);
    // Where blocks are found by work one may lose: what it brought is taken back and told again.
    const standing = () => heard.reduce((sum, { removed }) => sum + (removed ? -1 : 1), 0);
    await until(() => standing() === 1, "the event");
    assert.deepEqual(new Set(heard.map((log) => log.args.note)), new Set(["this one"]));
    stop();
  });

  test("polls events over HTTP as well", async () => {
    const contract = await deploy("Probe", [0n]);
    const heard = [];
    const stop = client.watchEvent({
      address: contract.address,
      event: parseAbiItem("event NumberChanged(address indexed, uint256 indexed, string)"),
      onLogs: (logs) => heard.push(...logs),
    });
    await until(async () => {
      await send(wallet, contract, "setNumber", [5n, "polled"]);
      return heard.length > 0;
    }, "the event");
    stop();
  });
});

describe("OpenZeppelin tokens", () => {
  test("an ERC-20 moves, allows and permits", async () => {
    const token = await deploy("Token", [parseEther("1000")]);
    await send(wallet, token, "transfer", [bob.address, parseEther("10")]);
    assert.equal(await call(token, "balanceOf", [bob.address]), parseEther("10"));
    await send(bobs, token, "approve", [alice.address, 5n]);
    await send(wallet, token, "transferFrom", [bob.address, alice.address, 5n]);
    const fields = ["owner address", "spender address", "value uint256", "nonce uint256"];
    const message = {
      owner: bob.address,
      spender: alice.address,
      value: 11n,
      nonce: 0n,
      deadline: 2n ** 40n,
    };
    const signature = await bob.signTypedData({
      domain: {
        name: "Test Token",
        version: "1",
        chainId: CHAIN_ID,
        verifyingContract: token.address,
      },
      primaryType: "Permit",
      types: {
        Permit: [...fields, "deadline uint256"].map((field) => {
          const [name, type] = field.split(" ");
          return { name, type };
        }),
      },
      message,
    });
    const [r, s] = [signature.slice(0, 66), `0x${signature.slice(66, 130)}`];
    const v = Number.parseInt(signature.slice(130), 16);
    const parameters = [bob.address, alice.address, message.value, message.deadline, v, r, s];
    await send(wallet, token, "permit", parameters);
    assert.equal(await call(token, "allowance", [bob.address, alice.address]), 11n);
  });

  test("an ERC-721 is minted, moved and refused to strangers", async () => {
    const collectible = await deploy("Collectible");
    await send(wallet, collectible, "mint", [alice.address, "ipfs://one"]);
    assert.equal(await call(collectible, "tokenURI", [1n]), "ipfs://one");
    await send(wallet, collectible, "transferFrom", [alice.address, bob.address, 1n]);
    assert.equal(await call(collectible, "ownerOf", [1n]), bob.address);
    const body = { functionName: "mint", args: [bob.address, ""], account: bob };
    const error = await failure(client.simulateContract({ ...collectible, ...body }));
    const revert = error.walk((cause) => cause instanceof ContractFunctionRevertedError);
    assert.equal(revert.data.errorName, "OwnableUnauthorizedAccount");
  });
});
