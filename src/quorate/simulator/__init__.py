"""The second world: whole nodes in virtual time, under every fault, from one seed."""
