// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title Who recorded which supply chain event, and what its document said
/// @notice A consortium's registry. Its admin enrols companies with roles; a company records the hash
/// of an event (GS1 CBV 2.0, section 8.9) together with the hash of the document that tells it. The
/// documents stay off-chain: anybody who is shown one can check it against the record.
///
/// @dev `records` is at slot 0, so that a proof of slot keccak256(contentHash . keccak256(eventHash . 0))
/// shows who recorded this document of this event, when and as what, in one word:
/// `role << 224 | time << 160 | company`; or, as zero, that nobody did.
contract Provenance {
    struct Record {
        address company;
        uint64 time;
        Role role;
    }

    struct Company {
        uint256 roles;
        bool suspended;
        string name;
    }

    enum Role {
        None,
        Manufacturer,
        Carrier,
        Distributor,
        Retailer,
        Inspector
    }

    mapping(bytes32 eventHash => mapping(bytes32 contentHash => Record)) public records;
    mapping(address account => Company) private _companies;
    address public admin;
    address public pendingAdmin;
    uint256 public total;

    event CompanyEnrolled(address indexed company, uint256 roles, string name);
    event CompanySuspended(address indexed company, bool suspended);
    event AdminProposed(address indexed admin);
    event AdminChanged(address indexed admin);
    event EventRecorded(
        bytes32 indexed eventHash, address indexed company, Role indexed role, bytes32 contentHash
    );

    error NotAdmin(address sender);
    error NotPendingAdmin(address sender);
    error NotEnrolled(address sender);
    error Suspended(address company);
    error RoleMissing(address company, Role role);
    error AlreadyRecorded(bytes32 eventHash, bytes32 contentHash, address company);
    error EmptyHash();
    error BadRoles(uint256 roles);

    modifier onlyAdmin() {
        if (msg.sender != admin) revert NotAdmin(msg.sender);
        _;
    }

    constructor() {
        admin = msg.sender;
        emit AdminChanged(msg.sender);
    }

    /// @notice Enrol a company or change its roles: a bit set over `Role`, bit 1 for Manufacturer.
    function enrol(address company, uint256 roles, string calldata name) external onlyAdmin {
        uint256 known = (2 << uint256(type(Role).max)) - 2;
        if (roles == 0 || roles & ~known != 0) revert BadRoles(roles);
        Company storage entry = _companies[company];
        entry.roles = roles;
        entry.name = name;
        emit CompanyEnrolled(company, roles, name);
    }

    /// @notice Stop a company from recording, or let it again. What it recorded stays.
    function suspend(address company, bool suspended) external onlyAdmin {
        if (_companies[company].roles == 0) revert NotEnrolled(company);
        _companies[company].suspended = suspended;
        emit CompanySuspended(company, suspended);
    }

    /// @notice Hand the registry over; takes effect when the new admin accepts, so that a wrong
    /// address cannot orphan it.
    function proposeAdmin(address next) external onlyAdmin {
        pendingAdmin = next;
        emit AdminProposed(next);
    }

    function acceptAdmin() external {
        if (msg.sender != pendingAdmin) revert NotPendingAdmin(msg.sender);
        admin = msg.sender;
        pendingAdmin = address(0);
        emit AdminChanged(msg.sender);
    }

    /// @notice Record, once and for all, that this document tells of this event. Other documents may
    /// tell of it too, from other companies or in another notation.
    function record(bytes32 eventHash, bytes32 contentHash, Role role) external {
        if (eventHash == 0 || contentHash == 0) revert EmptyHash();
        Company storage entry = _companies[msg.sender];
        if (entry.roles == 0) revert NotEnrolled(msg.sender);
        if (entry.suspended) revert Suspended(msg.sender);
        if (role == Role.None || entry.roles & (1 << uint256(role)) == 0) {
            revert RoleMissing(msg.sender, role);
        }
        address before = records[eventHash][contentHash].company;
        if (before != address(0)) revert AlreadyRecorded(eventHash, contentHash, before);
        records[eventHash][contentHash] = Record(msg.sender, uint64(block.timestamp), role);
        ++total;
        emit EventRecorded(eventHash, msg.sender, role, contentHash);
    }

    function getCompany(address account)
        external
        view
        returns (uint256 roles, bool suspended, string memory name)
    {
        Company storage entry = _companies[account];
        return (entry.roles, entry.suspended, entry.name);
    }
}
