.PHONY: build test lint lock compiled golden clean

build:  ## make .venv and compile the kernel
	./quorate version

test:  ## everything: ruff, mypy, the kernel's tests, pytest
	./quorate test

lint:  ## the quick checks, in an environment that `make test` made
	.venv/bin/python -m ruff check . quorate
	.venv/bin/python -m mypy

lock:  ## refresh the locked Python packages; needs uv
	uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes \
	    --no-header --no-emit-index-url -q -o requirements.lock
	uv pip compile pyproject.toml --extra compile --universal --python-version 3.11 \
	    --generate-hashes --no-header --no-emit-index-url -q -c requirements.lock \
	    -o requirements-compile.lock
	uv pip compile pyproject.toml --extra dev --extra clients --extra cluster --extra report \
	    --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url -q \
	    -c requirements-compile.lock -o requirements-dev.lock

compiled:  ## compile what simulated runs spend their time in
	./quorate compile

golden:  ## write down the digests of pinned simulated runs, where they were meant to change
	PYTHONPATH=src:tests .venv/bin/python -m simulator.golden

clean:  ## remove what a build made; networks stay
	rm -rf .venv kernel/target src/quorate/_kernel.abi3.so tests/js/node_modules
