// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {OwnableUpgradeable} from "@openzeppelin/contracts-upgradeable/access/OwnableUpgradeable.sol";
import {UUPSUpgradeable} from "@openzeppelin/contracts/proxy/utils/UUPSUpgradeable.sol";
import {ERC1967Proxy} from "@openzeppelin/contracts/proxy/ERC1967/ERC1967Proxy.sol";
import {
    TransparentUpgradeableProxy
} from "@openzeppelin/contracts/proxy/transparent/TransparentUpgradeableProxy.sol";

/// @title What lies behind a proxy, first version
contract Box is OwnableUpgradeable, UUPSUpgradeable {
    uint256 public value;

    constructor() {
        _disableInitializers();
    }

    function initialize(address owner, uint256 first) external initializer {
        __Ownable_init(owner);
        value = first;
    }

    function version() external pure virtual returns (uint256) {
        return 1;
    }

    function _authorizeUpgrade(address) internal override onlyOwner {}
}

/// @title Second version: the same storage, one more function
contract BoxTwo is Box {
    function increment() external {
        ++value;
    }

    function version() external pure override returns (uint256) {
        return 2;
    }
}

contract UniversalProxy is ERC1967Proxy {
    constructor(address box, bytes memory data) ERC1967Proxy(box, data) {}
}

contract TransparentProxy is TransparentUpgradeableProxy {
    constructor(address box, address owner, bytes memory data)
        TransparentUpgradeableProxy(box, owner, data)
    {}
}
