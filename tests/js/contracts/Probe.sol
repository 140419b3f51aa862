// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title Everything that a client must be able to see of a contract
contract Probe {
    uint256 public number;
    mapping(address account => uint256) public deposits;
    address public immutable owner = msg.sender;

    event NumberChanged(address indexed by, uint256 indexed number, string note);
    event Deposited(address indexed account, uint256 amount);

    error Unwelcome(address sender, uint256 number);

    constructor(uint256 first) payable {
        number = first;
    }

    receive() external payable {
        deposits[msg.sender] += msg.value;
        emit Deposited(msg.sender, msg.value);
    }

    function setNumber(uint256 next, string calldata note) external {
        number = next;
        emit NumberChanged(msg.sender, next, note);
    }

    function setMany(uint256 first, uint256 times) external {
        for (uint256 i = 0; i < times; ++i) {
            number = first + i;
            emit NumberChanged(msg.sender, first + i, "many");
        }
    }

    function failWithReason() external pure {
        revert("not today");
    }

    function failWithError() external view {
        revert Unwelcome(msg.sender, number);
    }

    function failWithPanic(uint256 divisor) external pure returns (uint256) {
        return 1 / divisor;
    }

    /// @dev Gas that depends on the gas given: a caller must keep 1/64, so that a plain binary search
    /// over the outermost success finds it and a guess from gas used does not.
    function forward(uint256 next) external {
        this.setNumber(next, "forwarded");
    }

    function context() external view returns (uint256, uint256, uint256, bytes32) {
        return (block.number, block.timestamp, block.chainid, blockhash(block.number - 1));
    }
}
