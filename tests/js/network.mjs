// Where the network under test is; set by tests/clients (or by hand).

import { readFileSync } from "node:fs";
import { join } from "node:path";

export const HTTP = process.env.QUORATE_RPC ?? "http://127.0.0.1:8545";
export const WS = process.env.QUORATE_WS ?? HTTP.replace(/^http/, "ws");
export const CHAIN_ID = 31337;
export const MNEMONIC = "test test test test test test test test test test test junk";

export function loadArtefact(name) {
  const folder = process.env.QUORATE_ARTEFACTS;
  if (folder === undefined) throw new Error("QUORATE_ARTEFACTS is not set: node compile.mjs FOLDER");
  return JSON.parse(readFileSync(join(folder, `${name}.json`), "utf8"));
}

// Resolves when `condition` returns something truthy; rejects when the deadline passes.
export async function until(condition, what, deadlineMs = 60_000) {
  const end = Date.now() + deadlineMs;
  for (;;) {
    const value = await condition();
    if (value) return value;
    if (Date.now() > end) throw new Error(`${what}: nothing within ${deadlineMs} ms`);
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
}
