// Deploys and uses a contract through Hardhat's own provider, which fills in gas, fees and nonce, and
// signs with the accounts of the configuration.

const assert = require("node:assert/strict");

const { Interface } = require("ethers");
const hre = require("hardhat");

const ask = (method, ...params) => hre.network.provider.request({ method, params });

async function main() {
  const { abi, bytecode } = await hre.artifacts.readArtifact("Counter");
  const counter = new Interface(abi);
  const [from, other] = await ask("eth_accounts");

  async function send(body) {
    const hash = await ask("eth_sendTransaction", { from, ...body });
    for (const end = Date.now() + 30_000; Date.now() < end; ) {
      const receipt = await ask("eth_getTransactionReceipt", hash);
      if (receipt !== null) return receipt;
      await new Promise((resolve) => setTimeout(resolve, 25));
    }
    throw new Error(`${hash} is in no block after 30 s`);
  }

  const deployed = await send({ data: bytecode + counter.encodeDeploy([40n]).slice(2) });
  assert.equal(deployed.status, "0x1");
  const to = deployed.contractAddress;
  const added = await send({ to, data: counter.encodeFunctionData("add", [2n]) });
  assert.equal(counter.parseLog(added.logs[0]).args.number, 42n);
  const number = await ask("eth_call", { to, data: counter.encodeFunctionData("number") }, "latest");
  assert.equal(BigInt(number), 42n);
  const paid = await send({ to: other, value: "0x5", gasPrice: "0x4a817c800" });
  assert.deepEqual([paid.gasUsed, paid.type], ["0x5208", "0x0"]);

  const tooMuch = { from, to, data: counter.encodeFunctionData("add", [101n]) };
  for (const method of ["eth_call", "eth_estimateGas"]) {
    await assert.rejects(ask(method, tooMuch), (error) => {
      assert.equal(error.code, 3, `${method}: ${error}`);
      assert.equal(counter.parseError(error.data.data ?? error.data).name, "TooMuch");
      return true;
    });
  }
  console.log(`counted to ${BigInt(number)} at ${to}`);
}

main().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
