// Compiles every committed contract with solc from npm and writes its artefact:
//
//     npm ci --prefix tests/js && node contracts/build.mjs            write
//     node contracts/build.mjs --check                                 compare, exit 1 if any differs
//
// An artefact holds what its users need and nothing that depends on the machine: no paths, no
// metadata hash. The same source and compiler give the same bytes.

import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = resolve(dirname(fileURLToPath(import.meta.url)), "..");
const PACKAGES = join(ROOT, "tests", "js", "node_modules");

// [source, contract, artefact]
const CONTRACTS = [
  ["contracts/Validators.sol", "Validators", "src/quorate/ledger/validators_contract.json"],
  ["contracts/Token.sol", "Token", "src/quorate/simulator/compare/token_contract.json"],
  [
    "examples/supply_chain/Provenance.sol",
    "Provenance",
    "examples/supply_chain/Provenance.json",
  ],
  ["examples/escrow/Escrow.sol", "Escrow", "examples/escrow/Escrow.json"],
];

function loadCompiler() {
  if (!existsSync(join(PACKAGES, "solc"))) {
    console.error("solc is not installed: run `npm ci --prefix tests/js`");
    process.exit(1);
  }
  return createRequire(join(PACKAGES, "index.js"))("solc");
}

// Types are numbered by the compiler in the order it meets them; only what locates a value is kept.
function layoutOf(storage) {
  return storage.map(({ label, slot, offset, type }) => ({ label, slot, offset, type }));
}

function compile(solc, path, name) {
  const input = {
    language: "Solidity",
    sources: { [path]: { content: readFileSync(join(ROOT, path), "utf8") } },
    settings: {
      evmVersion: "osaka",
      optimizer: { enabled: true, runs: 1000 },
      metadata: { bytecodeHash: "none", appendCBOR: false },
      outputSelection: {
        "*": {
          "*": ["abi", "evm.bytecode.object", "evm.deployedBytecode.object", "storageLayout"],
        },
      },
    },
  };
  const output = JSON.parse(solc.compile(JSON.stringify(input)));
  const problems = output.errors ?? [];
  for (const problem of problems) console.error(problem.formattedMessage);
  if (problems.length > 0) process.exit(1);
  const contract = output.contracts[path][name];
  return {
    contract: name,
    source: path,
    compiler: `solc ${solc.version().split("+")[0]}`,
    abi: contract.abi,
    bytecode: `0x${contract.evm.bytecode.object}`,
    deployedBytecode: `0x${contract.evm.deployedBytecode.object}`,
    storageLayout: layoutOf(contract.storageLayout.storage),
  };
}

function main() {
  const check = process.argv.includes("--check");
  const solc = loadCompiler();
  let stale = 0;
  for (const [source, name, target] of CONTRACTS) {
    const text = `${JSON.stringify(compile(solc, source, name), null, 2)}\n`;
    const path = join(ROOT, target);
    if (!check) {
      writeFileSync(path, text);
      console.log(`${target}`);
    } else if (!existsSync(path) || readFileSync(path, "utf8") !== text) {
      console.error(`${target} is not what ${source} compiles to: run \`node contracts/build.mjs\``);
      stale += 1;
    }
  }
  process.exit(stale > 0 ? 1 : 0);
}

main();
