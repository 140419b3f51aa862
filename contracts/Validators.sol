// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title The validator set of a Quorate network
/// @notice Lives at 0x0000000000000000000000000000000000001000 from genesis. The validators vote, by
/// power, on one member's power at a time: a power for an address that is not a validator adds it,
/// zero removes it, anything else changes it. A change happens inside the transaction whose vote brings
/// more than half of the current power together, and holds for consensus two blocks later.
///
/// @dev Nodes and light clients read the storage, not the functions, so the first two slots are a
/// format: slot 0 is the number of validators n; slot keccak256(uint256(0)) + i, for i < n, is
/// `power << 160 | address` of validator i, in no particular order. Genesis fills the same slots.
contract Validators {
    /// @notice The most validators there can be; bounds the gas of a vote and the size of a certificate.
    uint256 public constant MAX_VALIDATORS = 128;
    /// @notice The greatest power of one validator, in genesis too.
    uint256 public constant MAX_POWER = 2 ** 32 - 1;

    /// @dev Slot 0: its length is the count, its elements are the packed validators.
    uint256[] private _packed;
    /// @dev Slot 1 is reserved. No function writes it.
    uint256 private _reserved;
    /// @dev How often the power of a candidate has been changed. Votes of earlier rounds are void.
    mapping(address candidate => uint64) private _round;
    /// @dev How often a validator was removed. Its votes from before that are void.
    mapping(address voter => uint64) private _term;
    mapping(address candidate => mapping(address voter => Vote)) private _votes;

    /// @dev One slot. `cast` tells a vote for power 0 from no vote.
    struct Vote {
        uint32 power;
        uint64 round;
        uint64 term;
        bool cast;
    }

    event VoteCast(address indexed voter, address indexed candidate, uint256 power);
    event VoteWithdrawn(address indexed voter, address indexed candidate);
    event PowerChanged(address indexed validator, uint256 oldPower, uint256 newPower);

    error NotValidator(address sender);
    error ZeroAddress();
    error PowerTooGreat(uint256 found, uint256 most);
    error NothingToChange(address candidate, uint256 power);
    error NoVote(address voter, address candidate);
    error TooManyValidators(uint256 most);
    error LastValidator(address validator);

    /// @notice Vote for `candidate` to have `newPower`; replaces the sender's vote on that candidate.
    /// @return changed whether this vote decided it.
    function vote(address candidate, uint256 newPower) external returns (bool changed) {
        if (candidate == address(0)) revert ZeroAddress();
        if (newPower > MAX_POWER) revert PowerTooGreat(newPower, MAX_POWER);
        (uint256 current, uint256 index) = _find(candidate);
        if (current == newPower) revert NothingToChange(candidate, newPower);
        (uint256 own,) = _find(msg.sender);
        if (own == 0) revert NotValidator(msg.sender);

        // The cast to 32 bits loses nothing: MAX_POWER was checked above.
        _votes[candidate][msg.sender] =
            Vote(uint32(newPower), _round[candidate], _term[msg.sender], true);
        emit VoteCast(msg.sender, candidate, newPower);

        (uint256 inFavour, uint256 total) = tally(candidate, newPower);
        if (inFavour * 2 <= total) return false;
        _change(candidate, index, current, newPower);
        return true;
    }

    /// @notice Take back the sender's vote on `candidate`.
    function withdraw(address candidate) external {
        if (!_counts(_votes[candidate][msg.sender], candidate, msg.sender)) {
            revert NoVote(msg.sender, candidate);
        }
        delete _votes[candidate][msg.sender];
        emit VoteWithdrawn(msg.sender, candidate);
    }

    /// @notice The validators and their powers, in the same order.
    function validators() external view returns (address[] memory members, uint256[] memory powers) {
        uint256 n = _packed.length;
        members = new address[](n);
        powers = new uint256[](n);
        for (uint256 i = 0; i < n; ++i) {
            uint256 entry = _packed[i];
            members[i] = address(uint160(entry));
            powers[i] = entry >> 160;
        }
    }

    /// @notice How many validators there are.
    function count() external view returns (uint256) {
        return _packed.length;
    }

    /// @notice The power of an address, 0 if it is not a validator.
    function power(address validator) external view returns (uint256 found) {
        (found,) = _find(validator);
    }

    /// @notice The standing vote of `voter` on `candidate`.
    function getVote(address candidate, address voter)
        external
        view
        returns (bool cast, uint256 newPower)
    {
        Vote memory standing = _votes[candidate][voter];
        cast = _counts(standing, candidate, voter);
        newPower = cast ? standing.power : 0;
    }

    /// @notice The power of the current validators who want `candidate` to have `newPower`, and the
    /// power of all. A change needs more than half.
    function tally(address candidate, uint256 newPower)
        public
        view
        returns (uint256 inFavour, uint256 total)
    {
        uint256 n = _packed.length;
        for (uint256 i = 0; i < n; ++i) {
            uint256 entry = _packed[i];
            address voter = address(uint160(entry));
            total += entry >> 160;
            Vote memory standing = _votes[candidate][voter];
            if (standing.power == newPower && _counts(standing, candidate, voter)) {
                inFavour += entry >> 160;
            }
        }
    }

    function _change(address candidate, uint256 index, uint256 current, uint256 newPower) private {
        uint256 n = _packed.length;
        if (current == 0) {
            if (n >= MAX_VALIDATORS) revert TooManyValidators(MAX_VALIDATORS);
            _packed.push(newPower << 160 | uint160(candidate));
        } else if (newPower == 0) {
            if (n == 1) revert LastValidator(candidate);
            _packed[index] = _packed[n - 1];
            _packed.pop();
            _term[candidate] += 1;
        } else {
            _packed[index] = newPower << 160 | uint160(candidate);
        }
        _round[candidate] += 1;
        emit PowerChanged(candidate, current, newPower);
    }

    /// @dev A scan, since genesis writes only the array; MAX_VALIDATORS bounds it.
    function _find(address validator) private view returns (uint256 found, uint256 index) {
        uint256 n = _packed.length;
        for (uint256 i = 0; i < n; ++i) {
            uint256 entry = _packed[i];
            if (address(uint160(entry)) == validator) return (entry >> 160, i);
        }
        return (0, n);
    }

    function _counts(Vote memory standing, address candidate, address voter)
        private
        view
        returns (bool)
    {
        return standing.cast && standing.round == _round[candidate] && standing.term == _term[voter];
    }
}
