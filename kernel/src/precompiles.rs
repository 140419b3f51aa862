//! Precompiled contracts that an override moved elsewhere, or took away.

use crate::errors::{Error, Result};
use alloy_primitives::map::AddressMap;
use alloy_primitives::{Address, map::AddressSet};
use alloy_rpc_types_eth::state::StateOverride;
use revm::context::{Cfg, ContextTr};
use revm::handler::{EthPrecompiles, PrecompileProvider};
use revm::interpreter::{CallInputs, InterpreterResult};
use revm::primitives::hardfork::SpecId;

/// Those of a fork, by where they are now.
#[derive(Clone)]
pub struct Precompiles {
    spec: SpecId,
    /// Where each is -> where it was.
    places: AddressMap<Address>,
    /// Where they were before anything was moved: what is warm goes by the rules, not by overrides, as in geth.
    warm: AddressSet,
}

impl Precompiles {
    pub fn new(spec: SpecId) -> Precompiles {
        let warm = EthPrecompiles::new(spec).precompiles.addresses_set().clone();
        Precompiles { spec, places: warm.iter().map(|address| (*address, *address)).collect(), warm }
    }

    /// Move and take away what `overrides` say; an account that is overridden is no precompile any more.
    pub fn apply(&mut self, overrides: &StateOverride) -> Result<()> {
        let before = self.places.clone();
        let mut moved: AddressSet = AddressSet::default();
        let mut named: Vec<_> = overrides.iter().collect();
        named.sort_unstable_by_key(|(address, _)| **address);
        for (address, account) in named {
            if moved.contains(address) {
                return Err(refuse(format!("account {address} has already been overridden by a precompile")));
            }
            let was = before.get(address);
            if let Some(to) = account.move_precompile_to {
                let was = was.ok_or_else(|| refuse(format!("account {address} is not a precompile")))?;
                if overrides.contains_key(&to) {
                    return Err(refuse(format!("account {to} is already overridden")));
                }
                self.places.insert(to, *was);
                moved.insert(to);
            }
            if was.is_some() && !moved.contains(address) {
                self.places.remove(address);
            }
        }
        Ok(())
    }
}

fn refuse(message: String) -> Error {
    Error::coded(-32000, message)
}

impl<CTX: ContextTr<Cfg: Cfg<Spec = SpecId>>> PrecompileProvider<CTX> for Precompiles {
    type Output = InterpreterResult;

    fn set_spec(&mut self, _: SpecId) -> bool {
        // Made for one fork, and always to be told to the journal.
        true
    }

    fn run(
        &mut self,
        context: &mut CTX,
        inputs: &CallInputs,
    ) -> std::result::Result<Option<InterpreterResult>, String> {
        let Some(was) = self.places.get(&inputs.bytecode_address) else { return Ok(None) };
        let mut inputs = inputs.clone();
        inputs.bytecode_address = *was;
        EthPrecompiles::new(self.spec).run(context, &inputs)
    }

    fn warm_addresses(&self) -> &AddressSet {
        &self.warm
    }

    fn contains(&self, address: &Address) -> bool {
        self.places.contains_key(address)
    }
}
