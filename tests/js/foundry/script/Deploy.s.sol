// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Counter} from "../src/Counter.sol";

interface Vm {
    function startBroadcast() external;
    function stopBroadcast() external;
}

/// @title Deploys two counters, one of them at an address that follows from its code, and counts
contract Deploy {
    Vm private constant VM = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));
    bool public constant IS_SCRIPT = true;

    function run() external returns (Counter plain, Counter placed) {
        VM.startBroadcast();
        plain = new Counter(1);
        placed = new Counter{salt: bytes32(block.timestamp)}(40);
        plain.add(1);
        placed.add(2);
        VM.stopBroadcast();
        require(plain.number() == 2 && placed.number() == 42, "miscounted");
    }
}
