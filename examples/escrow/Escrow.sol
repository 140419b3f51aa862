// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title Money held between a buyer and a seller
/// @notice The buyer pays in. The buyer or the arbiter releases it to the seller; the seller or the
/// arbiter returns it to the buyer; after the deadline the buyer takes it back alone. Whatever happens
/// first ends the deal. The arbiter can only choose between the two and never holds the money.
contract Escrow {
    enum State {
        None,
        Funded,
        Released,
        Refunded
    }

    struct Deal {
        address buyer;
        State state;
        uint64 deadline;
        address seller;
        address arbiter;
        uint256 amount;
    }

    mapping(uint256 id => Deal) public deals;
    uint256 public count;

    event Funded(
        uint256 indexed id,
        address indexed buyer,
        address indexed seller,
        address arbiter,
        uint256 amount,
        uint64 deadline
    );
    event Released(uint256 indexed id, address indexed by, uint256 amount);
    event Refunded(uint256 indexed id, address indexed by, uint256 amount);

    error NothingPaid();
    error BadParty(address party);
    error BadDeadline(uint64 deadline, uint256 time);
    error NotFunded(uint256 id, State state);
    error NotAllowed(address sender);
    error TooEarly(uint256 time, uint64 deadline);
    error PaymentFailed(address to);

    /// @notice Open a deal over the ether sent along. `arbiter` may be zero: then nobody arbitrates.
    function open(address seller, address arbiter, uint64 deadline)
        external
        payable
        returns (uint256 id)
    {
        if (msg.value == 0) revert NothingPaid();
        if (seller == address(0) || seller == msg.sender) revert BadParty(seller);
        if (arbiter == seller || arbiter == msg.sender) revert BadParty(arbiter);
        if (deadline <= block.timestamp) revert BadDeadline(deadline, block.timestamp);
        id = ++count;
        deals[id] = Deal(msg.sender, State.Funded, deadline, seller, arbiter, msg.value);
        emit Funded(id, msg.sender, seller, arbiter, msg.value, deadline);
    }

    /// @notice Pay the seller.
    function release(uint256 id) external {
        Deal storage deal = _funded(id);
        if (msg.sender != deal.buyer && msg.sender != deal.arbiter) revert NotAllowed(msg.sender);
        deal.state = State.Released;
        emit Released(id, msg.sender, deal.amount);
        _pay(deal.seller, deal.amount);
    }

    /// @notice Pay the buyer back.
    function refund(uint256 id) external {
        Deal storage deal = _funded(id);
        if (msg.sender == deal.buyer) {
            if (block.timestamp < deal.deadline) revert TooEarly(block.timestamp, deal.deadline);
        } else if (msg.sender != deal.seller && msg.sender != deal.arbiter) {
            revert NotAllowed(msg.sender);
        }
        deal.state = State.Refunded;
        emit Refunded(id, msg.sender, deal.amount);
        _pay(deal.buyer, deal.amount);
    }

    function _funded(uint256 id) private view returns (Deal storage deal) {
        deal = deals[id];
        if (deal.state != State.Funded) revert NotFunded(id, deal.state);
    }

    /// @dev Called last, after the state has changed, so that a callback finds the deal ended.
    function _pay(address to, uint256 amount) private {
        (bool paid,) = to.call{value: amount}("");
        if (!paid) revert PaymentFailed(to);
    }
}
