// Permit2 at its address of every chain, by ethers. Run by tests/clients.
//
// Its authors publish no package of it; their package of Uniswap v4 carries its sources, and what they
// compiled of them (`DeployPermit2.sol`): the code as it stands on one chain. What came before that code
// when it was deployed is known, and that it all fits is what the address proves.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, describe, test } from "node:test";

import {
  Contract,
  ContractFactory,
  FetchRequest,
  HDNodeWallet,
  Interface,
  JsonRpcProvider,
  MaxUint256,
  Mnemonic,
  Signature,
  TypedDataEncoder,
  Wallet,
  concat,
  getCreate2Address,
  keccak256,
  parseEther,
} from "ethers";

import { PROXY, deployProxy } from "./keyless.mjs";
import { CHAIN_ID, HTTP, MNEMONIC, loadArtefact } from "./network.mjs";

const PERMIT2 = "0x000000000022D473030F116dDEE9F6B43aC78BA3";
// Of the authors' script.
const SALT = "0x0000000000000000000000000000000000000000d3af2663da51c10215000000";
const SOURCE = "node_modules/@uniswap/v4-periphery/lib/permit2/test/utils/DeployPermit2.sol";
const FOREVER = 2n ** 47n;
const INTERFACE = new Interface([
  "function DOMAIN_SEPARATOR() view returns (bytes32)",
  "function allowance(address, address, address) view returns (uint160 amount, uint48 expiration, uint48 nonce)",
  "function approve(address token, address spender, uint160 amount, uint48 expiration)",
  "function permit(address owner, ((address token, uint160 amount, uint48 expiration, uint48 nonce) details, address spender, uint256 sigDeadline) permitSingle, bytes signature)",
  "function transferFrom(address from, address to, uint160 amount, address token)",
  "function invalidateNonces(address token, address spender, uint48 newNonce)",
  "function lockdown((address token, address spender)[] approvals)",
  "function nonceBitmap(address, uint256) view returns (uint256)",
  "function invalidateUnorderedNonces(uint256 wordPos, uint256 mask)",
  "function permitTransferFrom(((address token, uint256 amount) permitted, uint256 nonce, uint256 deadline) permit, (address to, uint256 requestedAmount) transferDetails, address owner, bytes signature)",
  "error AllowanceExpired(uint256 deadline)",
  "error InsufficientAllowance(uint256 amount)",
  "error InvalidNonce()",
  "error InvalidSigner()",
  "error SignatureExpired(uint256 signatureDeadline)",
]);
const DETAILS = [
  { name: "token", type: "address" },
  { name: "amount", type: "uint160" },
  { name: "expiration", type: "uint48" },
  { name: "nonce", type: "uint48" },
];
const SINGLE = {
  PermitSingle: [
    { name: "details", type: "PermitDetails" },
    { name: "spender", type: "address" },
    { name: "sigDeadline", type: "uint256" },
  ],
  PermitDetails: DETAILS,
};
const TRANSFER = {
  PermitTransferFrom: [
    { name: "permitted", type: "TokenPermissions" },
    { name: "spender", type: "address" },
    { name: "nonce", type: "uint256" },
    { name: "deadline", type: "uint256" },
  ],
  TokenPermissions: [
    { name: "token", type: "address" },
    { name: "amount", type: "uint256" },
  ],
};
const DOMAIN = { name: "Permit2", chainId: CHAIN_ID, verifyingContract: PERMIT2 };

// Accounts 3 and 4 as in ethers.test.mjs: the two never run side by side.
const phrase = Mnemonic.fromPhrase(MNEMONIC);
const walletAt = (i) => new Wallet(HDNodeWallet.fromMnemonic(phrase, `m/44'/60'/0'/0/${i}`).privateKey);

let provider;
let alice;
let bob;
let permit2;
let token;
let place;

// The code that the constructor is in, which puts the chain's id and the domain's hash into the rest.
function makeInitCode() {
  const source = readFileSync(new URL(SOURCE, import.meta.url), "utf8");
  const [, runtime] = source.match(/hex"([0-9a-f]+)"/);
  const fixed = runtime.match(/(?<=467f)[0-9a-f]{64}(?=03611b..577f[0-9a-f]{64}9056)/);
  const chain = fixed.index;
  const domain = chain + runtime.slice(chain).match(/577f/).index + 4;
  const empty = "0".repeat(64);
  let blank = runtime.slice(0, chain) + empty + runtime.slice(chain + 64);
  blank = blank.slice(0, domain) + empty + blank.slice(domain + 64);
  const at = (offset) => (offset / 2).toString(16).padStart(4, "0");
  const constructor =
    "60c0346100bb574660a052602081017f8cad95687ba82c2ce50e74f7b754645e5117c3a5bec8151c0726d5857980a86681527f" +
    "9ac997416e8ff9d2ff6bebeb7149f65cdae5e32e2b90440b566bb3044041d36a60408301524660608301523060808301526080" +
    "825260a082019180831060018060401b038411176100a557826040525190206080526123c090816100c1823960805181" +
    `61${at(domain)}015260a0518161${at(chain)}0152f35b634e487b7160e01b600052604160045260246000fd5b600080fdfe`;
  return `0x${constructor}${blank}`;
}

async function done(sent) {
  const receipt = await (await sent).wait();
  assert.equal(receipt.status, 1);
  return receipt;
}

async function refusal(promise) {
  try {
    await promise;
  } catch (error) {
    if (error.revert) return error.revert.name;
    if (error.data) return INTERFACE.parseError(error.data)?.name;
    throw error;
  }
  throw new Error("NOT refused");
}

async function makePermit(fields = {}) {
  const { sigDeadline, ...details } = fields;
  const { nonce } = await permit2.allowance(alice.address, place, bob.address);
  const single = {
    details: { token: place, amount: 1000n, expiration: FOREVER, nonce, ...details },
    spender: bob.address,
    sigDeadline: sigDeadline ?? MaxUint256,
  };
  return [single, await alice.signTypedData(DOMAIN, SINGLE, single)];
}

before(async () => {
  provider = new JsonRpcProvider(new FetchRequest(HTTP), undefined, {
    polling: true,
    pollingInterval: 50,
    cacheTimeout: -1,
  });
  alice = walletAt(3).connect(provider);
  bob = walletAt(4).connect(provider);
  const { abi, bytecode } = loadArtefact("Token");
  token = await new ContractFactory(abi, bytecode, alice).deploy(parseEther("1000"));
  await token.waitForDeployment();
  place = await token.getAddress();
});

after(() => provider.destroy());

describe("Permit2", () => {
  test("stands at the address that it has on every chain", async () => {
    const init = makeInitCode();
    assert.equal(getCreate2Address(PROXY, SALT, keccak256(init)), PERMIT2);
    await deployProxy(alice);
    if ((await provider.getCode(PERMIT2)) === "0x") {
      await done(alice.sendTransaction({ to: PROXY, data: concat([SALT, init]) }));
    }
    permit2 = new Contract(PERMIT2, INTERFACE, alice);
    assert.equal(await permit2.DOMAIN_SEPARATOR(), TypedDataEncoder.hashDomain(DOMAIN));
    await done(token.approve(PERMIT2, MaxUint256));
  });

  test("an allowance is given, used and runs out", async () => {
    const bobs = permit2.connect(bob);
    const move = (amount) => bobs.transferFrom.staticCall(alice.address, bob.address, amount, place);
    assert.equal(await refusal(move(1n)), "AllowanceExpired");
    await done(permit2.approve(place, bob.address, 100n, FOREVER));
    const before = await token.balanceOf(bob.address);
    await done(bobs.transferFrom(alice.address, bob.address, 60n, place));
    assert.equal((await token.balanceOf(bob.address)) - before, 60n);
    assert.equal((await permit2.allowance(alice.address, place, bob.address)).amount, 40n);
    assert.equal(await refusal(move(41n)), "InsufficientAllowance");
    await done(permit2.lockdown([{ token: place, spender: bob.address }]));
    assert.equal(await refusal(move(1n)), "InsufficientAllowance");
  });

  test("a signed permit is an allowance, once", async () => {
    const bobs = permit2.connect(bob);
    const [single, signature] = await makePermit();
    await done(bobs.permit(alice.address, single, signature));
    const { amount, nonce } = await permit2.allowance(alice.address, place, bob.address);
    assert.deepEqual([amount, nonce], [1000n, single.details.nonce + 1n]);
    await done(bobs.transferFrom(alice.address, bob.address, 1000n, place));
    const permits = (...permit) => bobs.permit.staticCall(alice.address, ...permit);
    assert.equal(await refusal(permits(single, signature)), "InvalidNonce");
    const [other, wrong] = await makePermit();
    other.details.amount += 1n;
    assert.equal(await refusal(permits(other, wrong)), "InvalidSigner");
    assert.equal(await refusal(permits(...(await makePermit({ sigDeadline: 1n })))), "SignatureExpired");
    // In its short form, too (EIP-2098).
    const [short, long] = await makePermit();
    await done(bobs.permit(alice.address, short, Signature.from(long).compactSerialized));
  });

  test("nonces are taken back before they are used", async () => {
    const [single, signature] = await makePermit();
    await done(permit2.invalidateNonces(place, bob.address, single.details.nonce + 5n));
    const call = permit2.connect(bob).permit.staticCall(alice.address, single, signature);
    assert.equal(await refusal(call), "InvalidNonce");
    const { nonce } = await permit2.allowance(alice.address, place, bob.address);
    assert.equal(nonce, single.details.nonce + 5n);
  });

  test("a signed transfer takes place once, in any order", async () => {
    const bobs = permit2.connect(bob);
    // Chosen by the owner; those of other runs are used up.
    const word = BigInt(Date.now());
    const sign = async (bit) => {
      const permit = { permitted: { token: place, amount: 50n }, nonce: word * 256n + bit, deadline: FOREVER };
      const message = { ...permit, spender: bob.address };
      return [permit, await alice.signTypedData(DOMAIN, TRANSFER, message)];
    };
    const to = { to: bob.address, requestedAmount: 20n };
    const before = await token.balanceOf(bob.address);
    for (const bit of [7n, 3n]) {
      const [permit, signature] = await sign(bit);
      await done(bobs.permitTransferFrom(permit, to, alice.address, signature));
      const again = bobs.permitTransferFrom.staticCall(permit, to, alice.address, signature);
      assert.equal(await refusal(again), "InvalidNonce");
    }
    assert.equal((await token.balanceOf(bob.address)) - before, 40n);
    assert.equal(await permit2.nonceBitmap(alice.address, word), (1n << 7n) | (1n << 3n));
    await done(permit2.invalidateUnorderedNonces(word, 1n << 9n));
    const [permit, signature] = await sign(9n);
    const call = bobs.permitTransferFrom.staticCall(permit, to, alice.address, signature);
    assert.equal(await refusal(call), "InvalidNonce");
    const [stolen, forOther] = await sign(11n);
    const thief = permit2.permitTransferFrom.staticCall(stolen, to, alice.address, forOther);
    assert.equal(await refusal(thief), "InvalidSigner");
  });
});
