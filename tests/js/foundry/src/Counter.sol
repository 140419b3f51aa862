// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title What forge deploys, calls and checks
contract Counter {
    uint256 public number;
    address public immutable owner;

    event Counted(address indexed by, uint256 number);

    error TooMuch(uint256 asked, uint256 most);

    constructor(uint256 first) {
        number = first;
        owner = msg.sender;
    }

    function add(uint256 amount) external {
        if (amount > 100) revert TooMuch(amount, 100);
        number += amount;
        emit Counted(msg.sender, number);
    }
}
