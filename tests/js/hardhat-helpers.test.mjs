// Hardhat's network helpers against a network for development. Run by tests/clients/test_dev.py.
//
// The helpers ask the module "hardhat" for its provider; here it is one that asks the node.

import assert from "node:assert/strict";
import Module, { createRequire } from "node:module";
import { test } from "node:test";

import { HTTP } from "./network.mjs";

let id = 0;
async function request({ method, params = [] }) {
  const body = JSON.stringify({ jsonrpc: "2.0", id: ++id, method, params });
  const headers = { "content-type": "application/json" };
  const answer = await (await fetch(HTTP, { method: "POST", headers, body })).json();
  if (answer.error) throw Object.assign(new Error(answer.error.message), answer.error);
  return answer.result;
}

const stand = {
  hardhat: { network: { name: "localhost", provider: { request } } },
  "hardhat/common": { CustomError: Error },
};
const load = Module._load;
Module._load = (name, ...rest) => stand[name] ?? load(name, ...rest);
const helpers = createRequire(import.meta.url)("@nomicfoundation/hardhat-network-helpers");
const { loadFixture, time, mine, mineUpTo, takeSnapshot, impersonateAccount, setBalance } = helpers;

const [owner, other] = await request({ method: "eth_accounts" });
const vault = "0x00000000000000000000000000000000cafe0003";
// Pays its balance to the caller once the time in slot 0 has come, else reverts.
const LOCK = "0x6000544210601557600060006000600047335af1005b60006000fd";

const balanceOf = async (account) =>
  BigInt(await request({ method: "eth_getBalance", params: [account, "latest"] }));
const withdraw = (from) =>
  request({ method: "eth_sendTransaction", params: [{ from, to: vault }] });
const YEAR = 365 * 24 * 3600;

async function lockForAYear() {
  const unlock = (await time.latest()) + YEAR;
  await helpers.setCode(vault, LOCK);
  await helpers.setStorageAt(vault, 0, unlock);
  await setBalance(vault, 1_000_000n);
  return { unlock };
}

test("too soon", async () => {
  const { unlock } = await loadFixture(lockForAYear);
  assert.equal(BigInt(await helpers.getStorageAt(vault, 0)), BigInt(unlock));
  await assert.rejects(withdraw(owner), /revert/);
  assert.equal(await balanceOf(vault), 1_000_000n);
});

test("when the time has come", async () => {
  const { unlock } = await loadFixture(lockForAYear);
  await time.increaseTo(unlock);
  assert.equal(await time.latest(), unlock);
  await withdraw(owner);
  assert.equal(await balanceOf(vault), 0n);
});

test("too soon once more, since fixtures turn time back", async () => {
  const { unlock } = await loadFixture(lockForAYear);
  assert.equal(await balanceOf(vault), 1_000_000n);
  assert.ok((await time.latest()) < unlock);
  await assert.rejects(withdraw(other), /revert/);
  const before = await time.latest();
  assert.equal(await time.increase(100), before + 100);
});

test("a time for the next block", async () => {
  await loadFixture(lockForAYear);
  const at = (await time.latest()) + 1000;
  await time.setNextBlockTimestamp(at);
  await setBalance(other, 10n ** 20n);
  const hash = await request({
    method: "eth_sendTransaction",
    params: [{ from: other, to: owner, value: "0x1" }],
  });
  const { blockNumber } = await request({ method: "eth_getTransactionReceipt", params: [hash] });
  const block = await request({ method: "eth_getBlockByNumber", params: [blockNumber, false] });
  assert.equal(Number(block.timestamp), at);
});

test("blocks", async () => {
  await loadFixture(lockForAYear);
  const height = await time.latestBlock();
  await mine(10);
  assert.equal(await time.latestBlock(), height + 10);
  await mineUpTo(height + 20);
  assert.equal(await time.latestBlock(), height + 20);
});

test("impersonation", async () => {
  await loadFixture(lockForAYear);
  await impersonateAccount(vault);
  const before = await balanceOf(owner);
  const fee = { gas: "0x5208", maxFeePerGas: "0x9502f9000", maxPriorityFeePerGas: "0x0" };
  await setBalance(vault, 10n ** 18n);
  await request({
    method: "eth_sendTransaction",
    params: [{ from: vault, to: owner, value: "0x5", ...fee }],
  });
  assert.equal(await balanceOf(owner), before + 5n);
  await helpers.stopImpersonatingAccount(vault);
});

test("nested snapshots", async () => {
  const outer = await takeSnapshot();
  await setBalance(vault, 1n);
  const inner = await takeSnapshot();
  await setBalance(vault, 2n);
  await inner.restore();
  assert.equal(await balanceOf(vault), 1n);
  await outer.restore();
  await assert.rejects(inner.restore(), /invalid snapshot/i);
});
