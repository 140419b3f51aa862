// Plays three deals through the escrow contract on a running network, with viem:
//
//     quorate up --detach
//     npm ci --prefix tests/js
//     node examples/escrow/run.mjs [http://127.0.0.1:8545]
//
// Paid and released; never delivered and refunded after the deadline; disputed and arbitrated. See
// README.md beside this file.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

// The packages of the repository's only manifest, wherever this is started from.
const require = createRequire(new URL("../../tests/js/package.json", import.meta.url));
const {
  ContractFunctionRevertedError,
  createPublicClient,
  createWalletClient,
  defineChain,
  formatEther,
  http,
  parseEther,
  parseEventLogs,
} = require("viem");
const { mnemonicToAccount } = require("viem/accounts");

const URL_OF_NODE = process.argv[2] ?? "http://127.0.0.1:8545";
const MNEMONIC = "test test test test test test test test test test test junk";
const NO_ARBITER = "0x0000000000000000000000000000000000000000";
const REFUND_GAS = 150_000n;

const artefact = JSON.parse(readFileSync(new URL("./Escrow.json", import.meta.url), "utf8"));
const transport = http(URL_OF_NODE, { timeout: 60_000 });
const probe = createPublicClient({ transport });
const chain = defineChain({
  id: await probe.getChainId(),
  name: "Quorate",
  nativeCurrency: { name: "Ether", symbol: "ETH", decimals: 18 },
  rpcUrls: { default: { http: [URL_OF_NODE] } },
});
const client = createPublicClient({ chain, transport, pollingInterval: 50, cacheTime: 0 });
const walletAt = (addressIndex) =>
  createWalletClient({ account: mnemonicToAccount(MNEMONIC, { addressIndex }), chain, transport });
const [buyer, seller, arbiter] = [7, 8, 9].map(walletAt);

async function mined(hash) {
  const receipt = await client.waitForTransactionReceipt({ hash, timeout: 120_000 });
  assert.equal(receipt.status, "success", `${hash} reverted`);
  return receipt;
}

// Simulated first, so that a refusal comes with its reason before anything is sent.
async function act(wallet, contract, functionName, args, more = {}) {
  const body = { ...contract, functionName, args, account: wallet.account, ...more };
  const { request } = await client.simulateContract(body);
  return mined(await wallet.writeContract(request));
}

async function refusal(promise) {
  try {
    await promise;
  } catch (error) {
    const revert = error.walk((cause) => cause instanceof ContractFunctionRevertedError);
    if (revert === null) throw error;
    return revert.data.errorName;
  }
  throw new Error("NOT refused");
}

async function open(contract, value, deadline, judge = NO_ARBITER) {
  const receipt = await act(buyer, contract, "open", [seller.account.address, judge, deadline], {
    value,
  });
  const [{ args }] = parseEventLogs({ ...contract, logs: receipt.logs, eventName: "Funded" });
  console.log(`deal ${args.id}: the buyer paid in ${formatEther(value)} ETH`);
  return { id: args.id, blockNumber: receipt.blockNumber };
}

const balanceOf = (wallet) => client.getBalance({ address: wallet.account.address });
const deal = async (contract, id) =>
  client.readContract({ ...contract, functionName: "deals", args: [id] });
const now = () => BigInt(Math.floor(Date.now() / 1000));

async function playRelease(contract) {
  const amount = parseEther("2");
  const { id } = await open(contract, amount, now() + 3600n);
  assert.equal(await refusal(act(seller, contract, "release", [id])), "NotAllowed");
  const before = await balanceOf(seller);
  await act(buyer, contract, "release", [id]);
  assert.equal(await balanceOf(seller), before + amount);
  assert.equal(await refusal(act(buyer, contract, "release", [id])), "NotFunded");
  console.log(`deal ${id}: delivered and released; the seller has its ${formatEther(amount)} ETH`);
}

async function playTimeout(contract, term) {
  const amount = parseEther("3");
  const deadline = now() + term;
  const { id, blockNumber } = await open(contract, amount, deadline);
  // As of the block that brought the money in, however much time has passed since.
  const early = { ...contract, functionName: "refund", args: [id], account: buyer.account };
  assert.equal(await refusal(client.simulateContract({ ...early, blockNumber })), "TooEarly");
  console.log(`deal ${id}: a refund before the deadline is refused`);
  while (now() <= deadline) await new Promise((resolve) => setTimeout(resolve, 200));
  const before = await balanceOf(buyer);
  // Not simulated: where blocks are made on demand, the latest block may still lie before the
  // deadline; the one that this transaction brings about does not.
  const body = { ...contract, functionName: "refund", args: [id], gas: REFUND_GAS };
  const receipt = await mined(await buyer.writeContract(body));
  const fee = receipt.gasUsed * receipt.effectiveGasPrice;
  assert.equal(await balanceOf(buyer), before + amount - fee);
  console.log(`deal ${id}: never delivered; the buyer took its ${formatEther(amount)} ETH back`);
}

async function playDispute(contract) {
  const amount = parseEther("1");
  const { id } = await open(contract, amount, now() + 3600n, arbiter.account.address);
  const before = await balanceOf(seller);
  await act(arbiter, contract, "release", [id]);
  assert.equal(await balanceOf(seller), before + amount);
  assert.equal((await deal(contract, id))[1], 2);
  console.log(`deal ${id}: disputed; the arbiter decided for the seller`);
}

const { abi, bytecode } = artefact;
const { contractAddress } = await mined(await buyer.deployContract({ abi, bytecode }));
const contract = { address: contractAddress, abi };
console.log(`escrow at ${contractAddress}`);
const begin = now();
await playRelease(contract);
// Long enough for the money to come in, as fast as this network is.
await playTimeout(contract, 3n + 2n * (now() - begin));
await playDispute(contract);
assert.equal(await client.getBalance({ address: contractAddress }), 0n);
console.log("every deal has ended and the contract holds nothing");
