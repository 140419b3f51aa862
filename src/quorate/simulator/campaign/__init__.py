"""Many runs: seeds in batches over processes or machines, added up, audited, reported.

This package is the shell around the deterministic simulator: it starts processes and reads clocks.
Nothing of it changes what a seed comes to.
"""
