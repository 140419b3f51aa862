// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {ERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Permit.sol";

/// @title OpenZeppelin's ERC-20 with permits (ERC-2612), all of it given to the deployer
contract Token is ERC20, ERC20Permit {
    constructor(uint256 supply) ERC20("Test Token", "TEST") ERC20Permit("Test Token") {
        _mint(msg.sender, supply);
    }
}
