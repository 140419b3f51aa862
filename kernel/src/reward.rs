//! The reward of a block: one EIP-4895 withdrawal to whom its payload names, so that the block stays a standard one.
//!
//! A withdrawal follows from the header and the chain's rules alone, so it is never stored: its index counts blocks from 0,
//! its validator index is 0, its address is the block's beneficiary, its amount is the genesis file's `block_reward_gwei`.

use crate::errors::Result;
use crate::genesis::ChainSpec;
use crate::ordered_trie::ordered_root;
use alloy_consensus::Header;
use alloy_eips::eip4895::Withdrawal;
use alloy_primitives::B256;

/// The withdrawals of a block, of which only number, beneficiary and the presence of a withdrawals root are looked at.
pub fn withdrawals(spec: &ChainSpec, header: &Header) -> Vec<Withdrawal> {
    let pays = spec.block_reward_gwei > 0 && header.number > 0 && header.withdrawals_root.is_some();
    let withdrawal = || Withdrawal {
        index: header.number - 1,
        validator_index: 0,
        address: header.beneficiary,
        amount: spec.block_reward_gwei,
    };
    pays.then(withdrawal).into_iter().collect()
}

/// The root that a header holds of them.
pub fn withdrawals_root(withdrawals: &[Withdrawal]) -> Result<B256> {
    let encoded: Vec<Vec<u8>> = withdrawals.iter().map(alloy_rlp::encode).collect();
    ordered_root(&encoded.iter().map(|one| one.as_slice()).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_consensus::constants::EMPTY_WITHDRAWALS;
    use alloy_consensus::proofs::calculate_withdrawals_root;
    use alloy_primitives::Address;

    #[test]
    fn roots_are_those_of_the_hash_builder() {
        let one = Withdrawal { index: 6, validator_index: 0, address: Address::repeat_byte(7), amount: 2_000_000_000 };
        assert_eq!(withdrawals_root(&[one]).unwrap(), calculate_withdrawals_root(&[one]));
        assert_eq!(withdrawals_root(&[]).unwrap(), EMPTY_WITHDRAWALS);
    }
}
