// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AccessControl} from "@openzeppelin/contracts/access/AccessControl.sol";
import {Governor} from "@openzeppelin/contracts/governance/Governor.sol";
import {
    GovernorCountingSimple
} from "@openzeppelin/contracts/governance/extensions/GovernorCountingSimple.sol";
import {GovernorVotes} from "@openzeppelin/contracts/governance/extensions/GovernorVotes.sol";
import {IVotes} from "@openzeppelin/contracts/governance/utils/IVotes.sol";
import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {ERC20Votes} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Votes.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {Nonces} from "@openzeppelin/contracts/utils/Nonces.sol";

/// @title A word that holders of a role may change
contract Charter is AccessControl {
    bytes32 public constant EDITOR = keccak256("EDITOR");
    string public text;

    constructor(address admin) {
        _grantRole(DEFAULT_ADMIN_ROLE, admin);
    }

    function write(string calldata next) external onlyRole(EDITOR) {
        text = next;
    }
}

/// @title Shares with votes, all of them given to the deployer
contract Shares is ERC20Votes {
    constructor(uint256 supply) ERC20("Shares", "SHR") EIP712("Shares", "1") {
        _mint(msg.sender, supply);
    }
}

/// @title OpenZeppelin's governor with periods of a few blocks
contract Board is Governor, GovernorCountingSimple, GovernorVotes {
    constructor(IVotes shares) Governor("Board") GovernorVotes(shares) {}

    function votingDelay() public pure override returns (uint256) {
        return 1;
    }

    function votingPeriod() public pure override returns (uint256) {
        return 12;
    }

    function quorum(uint256) public pure override returns (uint256) {
        return 1;
    }
}
