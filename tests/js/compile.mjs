// Compiles the contracts of the client tests: node compile.mjs FOLDER writes NAME.json for each.

import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const HERE = dirname(fileURLToPath(import.meta.url));
const FILES = {
  Collectible: ["Collectible"],
  Governance: ["Charter", "Shares", "Board"],
  Probe: ["Probe"],
  Token: ["Token"],
  Upgradeable: ["Box", "BoxTwo", "UniversalProxy", "TransparentProxy"],
};

const solc = createRequire(import.meta.url)("solc");
const target = process.argv[2];
if (target === undefined) {
  console.error("usage: node compile.mjs FOLDER");
  process.exit(2);
}

const input = {
  language: "Solidity",
  sources: Object.fromEntries(
    Object.keys(FILES).map((name) => [
      `${name}.sol`,
      { content: readFileSync(join(HERE, "contracts", `${name}.sol`), "utf8") },
    ]),
  ),
  settings: {
    evmVersion: "osaka",
    optimizer: { enabled: true, runs: 200 },
    outputSelection: { "*": { "*": ["abi", "evm.bytecode.object"] } },
  },
};

function readImport(path) {
  return { contents: readFileSync(join(HERE, "node_modules", path), "utf8") };
}

const output = JSON.parse(solc.compile(JSON.stringify(input), { import: readImport }));
const errors = (output.errors ?? []).filter((problem) => problem.severity === "error");
if (errors.length > 0) {
  for (const problem of errors) console.error(problem.formattedMessage);
  process.exit(1);
}

mkdirSync(target, { recursive: true });
for (const [file, names] of Object.entries(FILES)) {
  for (const name of names) {
    const contract = output.contracts[`${file}.sol`][name];
    const artefact = { abi: contract.abi, bytecode: `0x${contract.evm.bytecode.object}` };
    writeFileSync(join(target, `${name}.json`), JSON.stringify(artefact));
  }
}
