// A project as `hardhat init` makes it, but for the compiler, which comes from its npm package.

const { subtask } = require("hardhat/config");
const { TASK_COMPILE_SOLIDITY_GET_SOLC_BUILD } = require("hardhat/builtin-tasks/task-names");

subtask(TASK_COMPILE_SOLIDITY_GET_SOLC_BUILD, async ({ solcVersion }, hre, runSuper) => {
  const solc = require("solc");
  if (!solc.version().startsWith(solcVersion)) return runSuper();
  return {
    version: solcVersion,
    longVersion: solc.version().split(".Emscripten")[0],
    compilerPath: require.resolve("solc/soljson.js"),
    isSolcJs: true,
  };
});

module.exports = {
  solidity: "0.8.37",
  paths: {
    artifacts: process.env.QUORATE_HARDHAT_OUT ?? "artifacts",
    cache: process.env.QUORATE_HARDHAT_CACHE ?? "cache",
  },
  networks: {
    quorate: {
      url: process.env.QUORATE_RPC ?? "http://127.0.0.1:8545",
      accounts: {
        mnemonic: "test test test test test test test test test test test junk",
        initialIndex: 5,
        count: 2,
      },
    },
  },
};
