// viem's test client against a network for development. Run by tests/clients/test_dev.py.

import assert from "node:assert/strict";
import { before, describe, test } from "node:test";

import {
  createTestClient,
  defineChain,
  http,
  parseEther,
  parseGwei,
  publicActions,
  walletActions,
} from "viem";
import { mnemonicToAccount } from "viem/accounts";

import { CHAIN_ID, HTTP, MNEMONIC } from "./network.mjs";

const chain = defineChain({
  id: CHAIN_ID,
  name: "Quorate",
  nativeCurrency: { name: "Ether", symbol: "ETH", decimals: 18 },
  rpcUrls: { default: { http: [HTTP] } },
});
const OTHERS = (process.env.QUORATE_OTHERS ?? "").split(",").filter(Boolean);
const someone = "0x00000000000000000000000000000000cafe0001";
const contract = "0x00000000000000000000000000000000cafe0002";
const carol = mnemonicToAccount(MNEMONIC, { addressIndex: 9 });
// Adds one to slot 0 at each call.
const COUNTER = "0x60005460010160005500";
const SLOT = `0x${"0".repeat(64)}`;

function clientOf(mode, url = HTTP) {
  const options = { chain, mode, pollingInterval: 20, cacheTime: 0 };
  return createTestClient({ ...options, transport: http(url, { retryCount: 0, timeout: 60_000 }) })
    .extend(publicActions)
    .extend(walletActions);
}

async function now(client) {
  return Number((await client.getBlock()).timestamp);
}

for (const mode of ["anvil", "hardhat"]) {
  describe(`mode ${mode}`, () => {
    const client = clientOf(mode);
    let start;

    before(async () => {
      start = await client.snapshot();
    });

    test("balances, nonces, code and storage", async () => {
      await client.setBalance({ address: someone, value: parseEther("3") });
      assert.equal(await client.getBalance({ address: someone }), parseEther("3"));
      await client.setNonce({ address: someone, nonce: 7 });
      assert.equal(await client.getTransactionCount({ address: someone }), 7);
      await client.setCode({ address: contract, bytecode: COUNTER });
      assert.equal(await client.getCode({ address: contract }), COUNTER);
      const value = `0x${"0".repeat(62)}2a`;
      await client.setStorageAt({ address: contract, index: 0, value });
      assert.equal(await client.getStorageAt({ address: contract, slot: "0x0" }), value);
    });

    test("every validator comes to the same", async () => {
      const height = await client.getBlockNumber();
      const { stateRoot } = await client.getBlock({ blockNumber: height });
      for (const url of OTHERS) {
        const other = clientOf(mode, url);
        while ((await other.getBlockNumber()) < height) await new Promise((r) => setTimeout(r, 10));
        assert.equal((await other.getBlock({ blockNumber: height })).stateRoot, stateRoot);
      }
    });

    test("impersonation, of a contract too", async () => {
      await client.setBalance({ address: contract, value: parseEther("1") });
      await assert.rejects(
        client.sendTransaction({ account: contract, to: someone, value: 1n }),
        /unknown account/,
      );
      await client.impersonateAccount({ address: contract });
      const before = await client.getBalance({ address: someone });
      const hash = await client.sendTransaction({ account: contract, to: someone, value: 5n });
      const receipt = await client.waitForTransactionReceipt({ hash });
      assert.equal(receipt.status, "success");
      assert.equal(receipt.from, contract);
      assert.equal((await client.getTransaction({ hash })).from, contract);
      assert.equal(await client.getBalance({ address: someone }), before + 5n);
      await client.stopImpersonatingAccount({ address: contract });
      await assert.rejects(
        client.sendTransaction({ account: contract, to: someone, value: 1n }),
        /unknown account/,
      );
    });

    test("known accounts need no impersonation", async () => {
      const accounts = await client.getAddresses();
      assert.ok(accounts.includes(carol.address));
      const hash = await client.sendTransaction({ account: carol.address, to: someone, value: 1n });
      assert.equal((await client.waitForTransactionReceipt({ hash })).status, "success");
    });

    test("time", async () => {
      const at = (await now(client)) + 86_400;
      await client.setNextBlockTimestamp({ timestamp: BigInt(at) });
      await client.setBalance({ address: someone, value: parseEther("1") });
      await client.mine({ blocks: 1 });
      assert.equal(await now(client), at);
      await client.increaseTime({ seconds: 3600 });
      await client.mine({ blocks: 1 });
      assert.ok((await now(client)) >= at + 3600 && (await now(client)) < at + 3700);
      await assert.rejects(client.setNextBlockTimestamp({ timestamp: 1n }), /lower than or equal/);
    });

    test("blocks", async () => {
      const height = await client.getBlockNumber();
      await client.mine({ blocks: 5, interval: 60 });
      assert.equal(await client.getBlockNumber(), height + 5n);
      const [first, last] = await Promise.all(
        [height + 1n, height + 5n].map((blockNumber) => client.getBlock({ blockNumber })),
      );
      assert.equal(last.timestamp - first.timestamp, 240n);
      assert.equal(await client.getAutomine?.() ?? true, true);
    });

    test("blocks that are asked for", async () => {
      await client.setAutomine(false);
      const hash = await client.sendTransaction({ account: carol.address, to: someone, value: 1n });
      assert.equal((await client.getTransaction({ hash })).blockNumber, null);
      await client.mine({ blocks: 1 });
      assert.equal((await client.getTransactionReceipt({ hash })).status, "success");
      await client.setIntervalMining({ interval: 0 });
      await client.setAutomine(true);
      if (mode === "anvil") assert.equal(await client.getAutomine(), true);
    });

    test("the price of gas", async () => {
      await client.setNextBlockBaseFeePerGas({ baseFeePerGas: parseGwei("7") });
      await client.mine({ blocks: 1 });
      assert.equal((await client.getBlock()).baseFeePerGas, parseGwei("7"));
    });

    test("snapshots", async () => {
      await client.setCode({ address: contract, bytecode: COUNTER });
      await client.setStorageAt({ address: contract, index: 0, value: SLOT });
      const id = await client.snapshot();
      const at = await now(client);
      for (let round = 0; round < 2; round++) {
        const hash = await client.sendTransaction({ account: carol.address, to: contract });
        await client.waitForTransactionReceipt({ hash });
        assert.equal(BigInt(await client.getStorageAt({ address: contract, slot: SLOT })), 1n);
        await client.increaseTime({ seconds: 10_000 });
        await client.mine({ blocks: 1 });
        await client.revert({ id });
        assert.equal(BigInt(await client.getStorageAt({ address: contract, slot: SLOT })), 0n);
        assert.equal(await now(client), at);
      }
      const unknown = await client.request({ method: "evm_revert", params: ["0xffffff"] });
      assert.equal(unknown, false);
    });

    test("what waits can be dropped", async () => {
      const nonce = (await client.getTransactionCount({ address: carol.address })) + 5;
      const hash = await client.sendTransaction({ account: carol.address, to: someone, nonce });
      await client.dropTransaction({ hash });
      await assert.rejects(client.getTransaction({ hash }), /could not be found/);
    });

    test("what cannot be says why", async () => {
      await assert.rejects(client.setCoinbase({ address: someone }), /part of what is agreed on/);
      await assert.rejects(client.reset(), /evm_revert/);
    });

    test("and everything goes back", async () => {
      await client.revert({ id: start });
      assert.equal(await client.getBalance({ address: someone }), 0n);
      assert.equal(await client.getCode({ address: contract }), undefined);
    });
  });
}
