// ethers 6 does everything that a DApp does. Run by tests/clients/test_javascript.py.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import {
  Contract,
  ContractFactory,
  FetchRequest,
  HDNodeWallet,
  JsonRpcProvider,
  Mnemonic,
  Signature,
  Transaction,
  Wallet,
  WebSocketProvider,
  ZeroHash,
  concat,
  getAddress,
  isError,
  keccak256,
  parseEther,
  parseUnits,
  toBeHex,
  toQuantity,
  zeroPadValue,
} from "ethers";

import { CHAIN_ID, HTTP, MNEMONIC, WS, loadArtefact, until } from "./network.mjs";

// Accounts 3 and 4 are this file's own, so that nonces stay its own when files run side by side.
const phrase = Mnemonic.fromPhrase(MNEMONIC);
const walletAt = (i) => new Wallet(HDNodeWallet.fromMnemonic(phrase, `m/44'/60'/0'/0/${i}`).privateKey);

let provider;
let socket;
let alice;
let bob;
let probe;

async function deploy(name, ...parameters) {
  const { abi, bytecode } = loadArtefact(name);
  const contract = await new ContractFactory(abi, bytecode, alice).deploy(...parameters);
  await contract.waitForDeployment();
  return contract;
}

async function failure(promise) {
  try {
    await promise;
  } catch (error) {
    return error;
  }
  throw new Error("expected an error, got none");
}

before(async () => {
  provider = new JsonRpcProvider(new FetchRequest(HTTP), undefined, {
    polling: true,
    pollingInterval: 50,
    cacheTimeout: -1,
  });
  socket = new WebSocketProvider(WS);
  alice = walletAt(3).connect(provider);
  bob = walletAt(4).connect(provider);
  probe = await deploy("Probe", 7n, { value: 5n });
});

after(async () => {
  provider.destroy();
  await socket.destroy();
});

describe("network and blocks", () => {
  test("names the network and its fees", async () => {
    assert.equal((await provider.getNetwork()).chainId, BigInt(CHAIN_ID));
    const fees = await provider.getFeeData();
    assert.ok(fees.maxFeePerGas !== null && fees.maxPriorityFeePerGas !== null);
    assert.ok(fees.gasPrice >= 0n);
  });

  test("reads blocks by number, tag and hash", async () => {
    const latest = await provider.getBlock("latest");
    assert.ok(latest.number >= 1);
    assert.ok(latest.baseFeePerGas !== null);
    const byHash = await provider.getBlock(latest.hash);
    assert.equal(byHash.number, latest.number);
    const genesis = await provider.getBlock(0);
    assert.equal((await provider.getBlock("earliest")).hash, genesis.hash);
    assert.equal((await provider.getBlock(1)).parentHash, genesis.hash);
    for (const tag of ["safe", "finalized"]) assert.notEqual(await provider.getBlock(tag), null);
    assert.equal(await provider.getBlock(latest.number + 1_000_000), null);
    assert.equal(await provider.getBlock(ZeroHash), null);
  });

  test("prefetches a block's transactions", async () => {
    const receipt = await (await alice.sendTransaction({ to: bob.address, value: 1n })).wait();
    const block = await provider.getBlock(receipt.blockNumber, true);
    assert.deepEqual(
      block.prefetchedTransactions.map((transaction) => transaction.hash),
      [...block.transactions],
    );
    assert.ok(block.transactions.includes(receipt.hash));
  });
});

describe("transactions", () => {
  test("moves ether and charges what the receipt says", async () => {
    const fresh = Wallet.createRandom().address;
    const before = await provider.getBalance(alice.address);
    const sent = await alice.sendTransaction({ to: fresh, value: parseEther("1.5") });
    const receipt = await sent.wait();
    assert.equal(receipt.status, 1);
    assert.equal(receipt.gasUsed, 21_000n);
    assert.equal(await provider.getBalance(fresh), parseEther("1.5"));
    const cost = parseEther("1.5") + receipt.gasUsed * receipt.gasPrice;
    assert.equal(await provider.getBalance(alice.address), before - cost);
    const found = await provider.getTransaction(sent.hash);
    assert.equal(found.type, 2);
    assert.equal(found.from, alice.address);
    assert.equal(found.blockHash, receipt.blockHash);
    assert.equal(await provider.getBalance(fresh, receipt.blockNumber - 1), 0n);
  });

  test("accepts types 0, 1 and 2", async () => {
    const gasPrice = parseUnits("20", "gwei");
    const slot = { address: await probe.getAddress(), storageKeys: [ZeroHash] };
    const bodies = [
      { type: 0, gasPrice },
      { type: 1, gasPrice, accessList: [slot] },
      { type: 2, maxFeePerGas: gasPrice, maxPriorityFeePerGas: 1n, accessList: [slot] },
    ];
    for (const body of bodies) {
      const sent = await alice.sendTransaction({ to: bob.address, value: 1n, ...body });
      const receipt = await sent.wait();
      assert.equal(receipt.type, body.type);
      assert.equal(receipt.gasUsed, body.accessList ? 21_000n + 2_400n + 1_900n : 21_000n);
      const found = await provider.getTransaction(sent.hash);
      assert.equal(found.type, body.type);
      if (body.accessList) assert.deepEqual(found.accessList, body.accessList.map((e) => ({ ...e })));
    }
  });

  test("accepts type 4 and delegates the account (EIP-7702)", async () => {
    const delegate = await probe.getAddress();
    const account = Wallet.createRandom().connect(provider);
    const authorization = await account.authorize({ address: delegate, nonce: 0n, chainId: CHAIN_ID });
    const sent = await alice.sendTransaction({
      type: 4,
      to: account.address,
      data: probe.interface.encodeFunctionData("setNumber", [99n, "delegated"]),
      authorizationList: [authorization],
      gasLimit: 200_000n,
    });
    const receipt = await sent.wait();
    assert.equal(receipt.status, 1);
    assert.equal(receipt.type, 4);
    const code = await provider.getCode(account.address);
    assert.equal(code, concat(["0xef0100", delegate]).toLowerCase());
    assert.equal(await new Contract(account.address, probe.interface, provider).number(), 99n);
    assert.equal(await provider.getTransactionCount(account.address), 1);
  });

  test("keeps the order of many transactions sent at once", async () => {
    const nonce = await provider.getTransactionCount(alice.address);
    const sent = await Promise.all(
      Array.from({ length: 20 }, (_, i) =>
        alice.sendTransaction({ to: bob.address, value: 1n, nonce: nonce + i, gasLimit: 21_000n }),
      ),
    );
    const receipts = await Promise.all(sent.map((transaction) => transaction.wait()));
    assert.ok(receipts.every((receipt) => receipt.status === 1));
    assert.equal(await provider.getTransactionCount(alice.address), nonce + 20);
  });

  test("sends a transaction that was signed elsewhere", async () => {
    const raw = await alice.signTransaction(
      await alice.populateTransaction({ to: bob.address, value: 3n }),
    );
    const sent = await provider.broadcastTransaction(raw);
    assert.equal(sent.hash, Transaction.from(raw).hash);
    assert.equal((await sent.wait()).status, 1);
  });
});

describe("contracts", () => {
  test("deploys, calls and reads storage and code", async () => {
    const address = await probe.getAddress();
    assert.equal(await probe.number(), 7n);
    assert.equal(await probe.owner(), alice.address);
    assert.equal(await provider.getBalance(address), 5n);
    assert.notEqual(await provider.getCode(address), "0x");
    assert.equal(await provider.getStorage(address, 0n), zeroPadValue(toBeHex(7n), 32));
    const [, , chainId] = await probe.context();
    assert.equal(chainId, BigInt(CHAIN_ID));
  });

  test("sends to a contract and decodes its event", async () => {
    const contract = await deploy("Probe", 1n);
    const receipt = await (await contract.setNumber(42n, "a note")).wait();
    assert.equal(receipt.logs.length, 1);
    const event = receipt.logs[0];
    assert.equal(event.eventName, "NumberChanged");
    assert.deepEqual([...event.args], [alice.address, 42n, "a note"]);
    assert.equal(await contract.number(), 42n);
    assert.equal(await contract.number({ blockTag: receipt.blockNumber - 1 }), 1n);
  });

  test("finds past events by filter", async () => {
    const contract = await deploy("Probe", 1n);
    const first = await (await contract.setMany(10n, 5n)).wait();
    await (await contract.connect(bob).setMany(100n, 2n)).wait();
    const from = first.blockNumber;
    assert.equal((await contract.queryFilter("NumberChanged", from)).length, 7);
    const bobs = await contract.queryFilter(contract.filters.NumberChanged(bob.address), from);
    assert.deepEqual(bobs.map((log) => log.args.number), [100n, 101n]);
    const twelve = await contract.queryFilter(contract.filters.NumberChanged(null, 12n), from);
    assert.equal(twelve.length, 1);
    const inBlock = await provider.getLogs({
      address: await contract.getAddress(),
      blockHash: first.blockHash,
    });
    assert.equal(inBlock.length, 5);
    assert.deepEqual(inBlock.map((log) => log.index - inBlock[0].index), [0, 1, 2, 3, 4]);
  });

  test("decodes reasons, custom errors and panics", async () => {
    const reason = await failure(probe.failWithReason());
    assert.ok(isError(reason, "CALL_EXCEPTION"));
    assert.equal(reason.reason, "not today");
    const custom = await failure(probe.connect(bob).failWithError.staticCall());
    assert.equal(custom.revert.name, "Unwelcome");
    assert.equal(custom.revert.args[0], bob.address);
    const panic = await failure(probe.failWithPanic(0n));
    assert.match(panic.reason, /Panic due to DIVIDE_BY_ZERO\(18\)/);
    const estimate = await failure(probe.failWithReason.estimateGas());
    assert.ok(isError(estimate, "CALL_EXCEPTION"));
    assert.equal(estimate.reason, "not today");
  });

  test("reports a transaction that reverted in its block", async () => {
    const data = probe.interface.encodeFunctionData("failWithReason");
    const sent = await alice.sendTransaction({ to: await probe.getAddress(), data, gasLimit: 100_000n });
    const error = await failure(sent.wait());
    assert.ok(isError(error, "CALL_EXCEPTION"));
    assert.equal(error.receipt.status, 0);
    assert.ok(error.receipt.gasUsed > 21_000n);
  });

  test("estimates gas that suffices, through the 63/64 rule too", async () => {
    const contract = await deploy("Probe", 0n);
    const plain = await provider.estimateGas({ from: alice.address, to: bob.address, value: 1n });
    assert.equal(plain, 21_000n);
    for (const [method, parameters] of [["setNumber", [5n, "x".repeat(100)]], ["forward", [6n]]]) {
      const gasLimit = await contract[method].estimateGas(...parameters);
      const receipt = await (await contract[method](...parameters, { gasLimit })).wait();
      assert.equal(receipt.status, 1);
      assert.ok(receipt.gasUsed <= gasLimit);
    }
  });
});

describe("errors as ethers classifies them", () => {
  test("NONCE_EXPIRED", async () => {
    const error = await failure(alice.sendTransaction({ to: bob.address, nonce: 0, gasLimit: 21_000n }));
    assert.ok(isError(error, "NONCE_EXPIRED"), String(error));
  });

  test("INSUFFICIENT_FUNDS", async () => {
    const poor = Wallet.createRandom().connect(provider);
    const error = await failure(
      poor.sendTransaction({ to: bob.address, value: parseEther("1"), gasLimit: 21_000n }),
    );
    assert.ok(isError(error, "INSUFFICIENT_FUNDS"), String(error));
  });

  test("REPLACEMENT_UNDERPRICED", async () => {
    const nonce = await provider.getTransactionCount(bob.address);
    const body = { to: alice.address, gasLimit: 21_000n, type: 2, maxPriorityFeePerGas: 10n ** 9n };
    const maxFeePerGas = parseUnits("20", "gwei");
    // The gap keeps the first one waiting, so that the second one meets it in the pool.
    const waiting = { ...body, nonce: nonce + 1, maxFeePerGas };
    const queued = await bob.sendTransaction({ ...waiting, value: 1n });
    const error = await failure(bob.sendTransaction({ ...waiting, value: 2n }));
    assert.ok(isError(error, "REPLACEMENT_UNDERPRICED"), String(error));
    await (await bob.sendTransaction({ ...body, nonce, maxFeePerGas })).wait();
    assert.equal((await queued.wait()).status, 1);
  });
});

describe("subscriptions over WebSocket", () => {
  test("tells of new blocks", async () => {
    const seen = [];
    await socket.on("block", (number) => seen.push(number));
    await socket.getBlockNumber();
    const receipt = await (await alice.sendTransaction({ to: bob.address, value: 1n })).wait();
    await until(() => seen.some((number) => number >= receipt.blockNumber), "a new block");
    await socket.off("block");
  });

  test("tells of a contract's events", async () => {
    const contract = await deploy("Probe", 0n);
    const heard = [];
    const listener = contract.connect(socket);
    await listener.on("NumberChanged", (by, number, note) => heard.push([by, number, note]));
    // An answer on the same socket means that the subscription before it has arrived.
    await socket.getBlockNumber();
    await (await contract.setNumber(77n, "heard")).wait();
    await until(() => heard.length > 0, "the event");
    assert.deepEqual(heard[0], [alice.address, 77n, "heard"]);
    await listener.removeAllListeners();
  });

  test("answers calls and sends transactions on the same socket", async () => {
    const wallet = alice.connect(socket);
    const sent = await wallet.sendTransaction({ to: bob.address, value: 1n });
    assert.equal((await sent.wait()).status, 1);
    assert.equal(await probe.connect(socket).number(), 7n);
  });
});

describe("OpenZeppelin tokens", () => {
  test("an ERC-20 moves, allows and permits", async () => {
    const token = await deploy("Token", parseEther("1000"));
    const address = await token.getAddress();
    const receipt = await (await token.transfer(bob.address, parseEther("10"))).wait();
    assert.equal(receipt.logs[0].eventName, "Transfer");
    assert.equal(await token.balanceOf(bob.address), parseEther("10"));
    await (await token.connect(bob).approve(alice.address, 5n)).wait();
    await (await token.transferFrom(bob.address, alice.address, 5n)).wait();
    assert.equal(await token.allowance(bob.address, alice.address), 0n);

    const deadline = 2n ** 40n;
    const value = 11n;
    const fields = ["owner address", "spender address", "value uint256", "nonce uint256"];
    const types = {
      Permit: [...fields, "deadline uint256"].map((field) => {
        const [name, type] = field.split(" ");
        return { name, type };
      }),
    };
    const domain = { name: "Test Token", version: "1", chainId: CHAIN_ID, verifyingContract: address };
    const message = { owner: bob.address, spender: alice.address, value, nonce: 0n, deadline };
    const { v, r, s } = Signature.from(await bob.signTypedData(domain, types, message));
    await (await token.permit(bob.address, alice.address, value, deadline, v, r, s)).wait();
    assert.equal(await token.allowance(bob.address, alice.address), value);

    const error = await failure(
      token.connect(bob).transfer.staticCall(alice.address, parseEther("100")),
    );
    assert.equal(error.revert.name, "ERC20InsufficientBalance");
  });

  test("an ERC-721 is minted, moved and refused to strangers", async () => {
    const collectible = await deploy("Collectible");
    await (await collectible.mint(alice.address, "ipfs://one")).wait();
    assert.equal(await collectible.ownerOf(1n), alice.address);
    assert.equal(await collectible.tokenURI(1n), "ipfs://one");
    const transfer = collectible["safeTransferFrom(address,address,uint256)"];
    await (await transfer(alice.address, bob.address, 1n)).wait();
    assert.equal(await collectible.ownerOf(1n), bob.address);
    assert.ok(await collectible.supportsInterface("0x80ac58cd"));
    const error = await failure(collectible.connect(bob).mint.staticCall(bob.address, "ipfs://two"));
    assert.equal(error.revert.name, "OwnableUnauthorizedAccount");
  });
});

describe("proofs", () => {
  test("eth_getProof names the account and the slot", async () => {
    const address = await probe.getAddress();
    const block = await provider.getBlock("latest");
    const proof = await provider.send("eth_getProof", [address, [ZeroHash], toQuantity(block.number)]);
    assert.equal(getAddress(proof.address), address);
    assert.equal(BigInt(proof.balance), 5n);
    assert.equal(BigInt(proof.storageProof[0].value), 7n);
    assert.equal(keccak256(proof.accountProof[0]), block.stateRoot);
    assert.equal(keccak256(proof.storageProof[0].proof[0]), proof.storageHash);
  });
});
