// Contracts that others wrote, in their usual flows, by ethers. Run by tests/clients.

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
  SigningKey,
  Wallet,
  concat,
  getCreate2Address,
  id,
  keccak256,
  parseEther,
  solidityPacked,
  toBeHex,
  toUtf8Bytes,
  zeroPadValue,
} from "ethers";

import { PROXY, deployProxy } from "./keyless.mjs";
import { CHAIN_ID, HTTP, MNEMONIC, loadArtefact, until } from "./network.mjs";

// Accounts 3 and 4 as in ethers.test.mjs: the two never run side by side.
const phrase = Mnemonic.fromPhrase(MNEMONIC);
const walletAt = (i) => new Wallet(HDNodeWallet.fromMnemonic(phrase, `m/44'/60'/0'/0/${i}`).privateKey);
const FOREVER = 2n ** 40n;

let provider;
let alice;
let bob;

function loadPackage(path) {
  const found = JSON.parse(readFileSync(new URL(`node_modules/${path}`, import.meta.url), "utf8"));
  const bytecode = found.evm?.bytecode.object ?? found.bytecode;
  return { abi: found.abi, bytecode: bytecode.startsWith("0x") ? bytecode : `0x${bytecode}` };
}

async function deploy({ abi, bytecode }, ...parameters) {
  const contract = await new ContractFactory(abi, bytecode, alice).deploy(...parameters);
  await contract.waitForDeployment();
  return contract;
}

const compiled = (name, ...parameters) => deploy(loadArtefact(name), ...parameters);

async function done(sent) {
  const receipt = await (await sent).wait();
  assert.equal(receipt.status, 1);
  return receipt;
}

async function refusal(contract, promise) {
  try {
    await promise;
  } catch (error) {
    if (error.revert) return error.revert.name;
    if (error.data) return contract.interface.parseError(error.data)?.name;
    throw error;
  }
  throw new Error("NOT refused");
}

before(async () => {
  provider = new JsonRpcProvider(new FetchRequest(HTTP), undefined, {
    polling: true,
    pollingInterval: 50,
    cacheTimeout: -1,
  });
  alice = walletAt(3).connect(provider);
  bob = walletAt(4).connect(provider);
});

after(() => provider.destroy());

describe("OpenZeppelin", () => {
  test("AccessControl grants, checks, renounces and revokes", async () => {
    const charter = await compiled("Charter", alice.address);
    const editor = await charter.EDITOR();
    const bobs = charter.connect(bob);
    assert.equal(
      await refusal(charter, bobs.write.staticCall("mine")),
      "AccessControlUnauthorizedAccount",
    );
    const granted = await done(charter.grantRole(editor, bob.address));
    assert.equal(granted.logs[0].eventName, "RoleGranted");
    await done(bobs.write("ours"));
    assert.equal(await charter.text(), "ours");
    await done(bobs.renounceRole(editor, bob.address));
    assert.equal(await charter.hasRole(editor, bob.address), false);
    assert.equal(
      await refusal(charter, bobs.grantRole.staticCall(editor, bob.address)),
      "AccessControlUnauthorizedAccount",
    );
  });

  test("a Governor proposes, votes and executes", async () => {
    const shares = await compiled("Shares", parseEther("100"));
    const board = await compiled("Board", await shares.getAddress());
    const charter = await compiled("Charter", await board.getAddress());
    await done(shares.transfer(bob.address, parseEther("40")));
    await done(shares.delegate(alice.address));
    await done(shares.connect(bob).delegate(bob.address));
    const call = charter.interface.encodeFunctionData("grantRole", [
      await charter.EDITOR(),
      alice.address,
    ]);
    const motion = [[await charter.getAddress()], [0n], [call]];
    const proposed = await done(board.propose(...motion, "let Alice write"));
    const { proposalId } = proposed.logs[0].args;
    const becomes = (state) =>
      // Blocks are made on demand, so each look asks for one.
      until(async () => {
        if ((await board.state(proposalId)) === state) return true;
        await done(bob.sendTransaction({ to: bob.address }));
      }, `state ${state}`);
    await becomes(1n);
    // The period is short: all votes wait in the pool together.
    const votes = [await board.castVote(proposalId, 1), await board.connect(bob).castVote(proposalId, 0)];
    for (const vote of votes) assert.equal((await vote.wait()).status, 1);
    assert.equal(await refusal(board, board.castVote.staticCall(proposalId, 1)), "GovernorAlreadyCastVote");
    await becomes(4n);
    await done(board.execute(...motion, id("let Alice write")));
    assert.equal(await board.state(proposalId), 7n);
    await done(charter.write("by decision"));
    assert.equal(await charter.text(), "by decision");
  });

  test("a UUPS proxy is initialised once, upgraded by its owner, and keeps its storage", async () => {
    const first = await compiled("Box");
    const second = await compiled("BoxTwo");
    const data = first.interface.encodeFunctionData("initialize", [alice.address, 41n]);
    const proxy = await compiled("UniversalProxy", await first.getAddress(), data);
    const box = new Contract(await proxy.getAddress(), second.interface, alice);
    assert.equal(await box.version(), 1n);
    assert.equal(
      await refusal(box, box.initialize.staticCall(bob.address, 0n)),
      "InvalidInitialization",
    );
    const target = await second.getAddress();
    assert.equal(
      await refusal(box, box.connect(bob).upgradeToAndCall.staticCall(target, "0x")),
      "OwnableUnauthorizedAccount",
    );
    const increment = second.interface.encodeFunctionData("increment");
    await done(box.upgradeToAndCall(target, increment));
    assert.deepEqual([await box.version(), await box.value()], [2n, 42n]);
    const slot = toBeHex(BigInt(id("eip1967.proxy.implementation")) - 1n, 32);
    const stored = await provider.getStorage(await proxy.getAddress(), slot);
    assert.equal(stored, zeroPadValue(target.toLowerCase(), 32));
  });

  test("a transparent proxy is upgraded by its admin contract", async () => {
    const first = await compiled("Box");
    const second = await compiled("BoxTwo");
    const data = first.interface.encodeFunctionData("initialize", [alice.address, 7n]);
    const place = await first.getAddress();
    const proxy = await compiled("TransparentProxy", place, alice.address, data);
    const address = await proxy.getAddress();
    const slot = toBeHex(BigInt(id("eip1967.proxy.admin")) - 1n, 32);
    const admin = new Contract(
      `0x${(await provider.getStorage(address, slot)).slice(-40)}`,
      ["function upgradeAndCall(address,address,bytes) payable"],
      alice,
    );
    await done(admin.upgradeAndCall(address, await second.getAddress(), "0x"));
    const box = new Contract(address, second.interface, alice);
    assert.deepEqual([await box.version(), await box.value()], [2n, 7n]);
  });
});

describe("Uniswap v2", () => {
  // An estimate sees the time of the latest block, as with geth. A pair pays for its price history
  // only when a second has passed since its last trade, so a node's estimate may miss that.
  const gas = { gasLimit: 500_000n };

  test("a pool is filled, traded with, and emptied", async () => {
    const core = "@uniswap/v2-core/build";
    const periphery = "@uniswap/v2-periphery/build";
    const factory = await deploy(loadPackage(`${core}/UniswapV2Factory.json`), alice.address);
    const weth = await deploy(loadPackage(`${periphery}/WETH9.json`));
    const router = await deploy(
      loadPackage(`${periphery}/UniswapV2Router02.json`),
      await factory.getAddress(),
      await weth.getAddress(),
    );
    const token = await compiled("Token", parseEther("1000"));
    const [tokenAt, wethAt, routerAt] = await Promise.all(
      [token, weth, router].map((contract) => contract.getAddress()),
    );
    await done(token.approve(routerAt, MaxUint256));
    const amount = parseEther("100");
    await done(
      router.addLiquidityETH(tokenAt, amount, amount, parseEther("1"), alice.address, FOREVER, {
        gasLimit: 4_000_000n,
        value: parseEther("1"),
      }),
    );
    const pair = new Contract(
      await factory.getPair(tokenAt, wethAt),
      loadPackage(`${core}/UniswapV2Pair.json`).abi,
      alice,
    );
    assert.equal(await pair.balanceOf(alice.address), parseEther("10") - 1000n);

    const [, expected] = await router.getAmountsOut(parseEther("0.1"), [wethAt, tokenAt]);
    const path = [wethAt, tokenAt];
    const value = parseEther("0.1");
    const swapped = await done(
      router.connect(bob).swapExactETHForTokens(expected, path, bob.address, FOREVER, {
        ...gas,
        value,
      }),
    );
    assert.equal(await token.balanceOf(bob.address), expected);
    const swap = swapped.logs.find((log) => log.topics[0] === pair.interface.getEvent("Swap").topicHash);
    assert.equal(pair.interface.parseLog(swap).args.to, bob.address);
    await assert.rejects(
      router.swapExactETHForTokens.staticCall(MaxUint256, path, bob.address, FOREVER, { value }),
      /UniswapV2Router: INSUFFICIENT_OUTPUT_AMOUNT/,
    );

    await done(token.connect(bob).approve(routerAt, expected));
    await done(
      router
        .connect(bob)
        .swapExactTokensForETH(expected, 0n, [tokenAt, wethAt], bob.address, FOREVER, gas),
    );
    assert.equal(await token.balanceOf(bob.address), 0n);

    const held = await pair.balanceOf(alice.address);
    await done(pair.approve(routerAt, held));
    await done(router.removeLiquidityETH(tokenAt, held, 0n, 0n, alice.address, FOREVER, gas));
    assert.equal(await pair.balanceOf(alice.address), 0n);
    assert.equal(await pair.totalSupply(), 1000n);
  });
});

describe("ERC-4337", () => {
  const artefact = (name) => loadPackage(`@account-abstraction/contracts/artifacts/${name}.json`);
  const pair = (high, low) => solidityPacked(["uint128", "uint128"], [high, low]);

  test("a bundler deploys a smart account by its first operation, which pays for itself", async () => {
    const entry = await deploy(artefact("EntryPoint"));
    const entryAt = await entry.getAddress();
    const factory = await deploy(artefact("SimpleAccountFactory"), entryAt);
    const owner = Wallet.createRandom();
    const sender = await factory.getFunction("getAddress(address,uint256)")(owner.address, 0n);
    await done(alice.sendTransaction({ to: sender, value: parseEther("1") }));
    const account = new Interface(artefact("SimpleAccount").abi);
    const fees = await provider.getFeeData();
    const operate = async (initCode, callData) => {
      const operation = {
        sender,
        nonce: await entry.getNonce(sender, 0n),
        initCode,
        callData,
        accountGasLimits: pair(1_500_000n, 200_000n),
        preVerificationGas: 60_000n,
        gasFees: pair(fees.maxPriorityFeePerGas, fees.maxFeePerGas),
        paymasterAndData: "0x",
        signature: "0x",
      };
      const digest = await entry.getUserOpHash(operation);
      operation.signature = Signature.from(new SigningKey(owner.privateKey).sign(digest)).serialized;
      const receipt = await done(entry.handleOps([operation], alice.address, { gasLimit: 5_000_000n }));
      const events = receipt.logs.map((log) => entry.interface.parseLog(log));
      const { args } = events.find((event) => event?.name === "UserOperationEvent");
      assert.equal(args.userOpHash, digest);
      return args.success;
    };

    const target = Wallet.createRandom().address;
    const create = factory.interface.encodeFunctionData("createAccount", [owner.address, 0n]);
    const pay = account.encodeFunctionData("execute", [target, 5n, "0x"]);
    assert.equal(await operate(concat([await factory.getAddress(), create]), pay), true);
    assert.notEqual(await provider.getCode(sender), "0x");
    assert.equal(await provider.getBalance(target), 5n);
    assert.equal(await operate("0x", pay), true);
    assert.equal(await provider.getBalance(target), 10n);
    // More than it has: the operation fails and is paid for all the same.
    const much = account.encodeFunctionData("execute", [target, parseEther("100"), "0x"]);
    assert.equal(await operate("0x", much), false);
    assert.ok((await provider.getBalance(sender)) < parseEther("1"));

    const stranger = Wallet.createRandom();
    const forged = {
      sender,
      nonce: await entry.getNonce(sender, 0n),
      initCode: "0x",
      callData: pay,
      accountGasLimits: pair(500_000n, 200_000n),
      preVerificationGas: 60_000n,
      gasFees: pair(fees.maxPriorityFeePerGas, fees.maxFeePerGas),
      paymasterAndData: "0x",
      signature: "0x",
    };
    forged.signature = new SigningKey(stranger.privateKey).sign(await entry.getUserOpHash(forged)).serialized;
    assert.equal(
      await refusal(entry, entry.handleOps.staticCall([forged], alice.address)),
      "FailedOp",
    );
  });
});

describe("deterministic deployment", () => {
  test("the keyless proxy puts the same code at the same address", async () => {
    await deployProxy(alice);
    const salt = keccak256(toUtf8Bytes(`${Date.now()}`));
    const { bytecode } = loadArtefact("Charter");
    const init = concat([bytecode, zeroPadValue(alice.address, 32)]);
    const place = getCreate2Address(PROXY, salt, keccak256(init));
    await done(alice.sendTransaction({ to: PROXY, data: concat([salt, init]) }));
    const charter = new Contract(place, loadArtefact("Charter").abi, alice);
    assert.equal(await charter.hasRole(`0x${"00".repeat(32)}`, alice.address), true);
    assert.equal((await provider.getNetwork()).chainId, BigInt(CHAIN_ID));
  });
});
