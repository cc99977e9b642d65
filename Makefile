# Everything here sets itself up: git, make and a python3 (3.11 or later, with venv) are enough.
#   make demo    the main job, from a signing ceremony to a verified npm signature
#   make test    the tests
#   make help    the rest

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PEERS  := .peers
STORES := .stores
SUITES := .conformance
JOBS   ?= auto
RELEASE := .release

.DEFAULT_GOAL := help
.PHONY: help demo test differential conformance conformance-sigstore oracle bench attacks soak smoke mutants fuzz bits scale millions lint format build peers anyday clean signers stores release lasting audit mix

help: ## show this
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 16

demo: $(VENV)/.installed ## run the main job in a temporary folder, without a network
	@$(BIN)/kedge demo $(ARGS)

test: $(VENV)/.developing ## run the tests, a worker for each core (ARGS="-k name" for some of them, JOBS=0 for no workers)
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder $(ARGS)

# Waits go by the monotonic clock, which stays as it is; tests/anyday mends the one wait that faketime breaks all the same.
anyday: $(VENV)/.developing ## run the tests that a day could matter to two years ahead, and a day back (needs Debian's faketime)
	@command -v faketime >/dev/null || { echo "make anyday: needs faketime (apt install faketime)" >&2; exit 2; }
	@for by in +730d -1d; do echo "with the clock at $$by"; \
	FAKETIME_DONT_FAKE_MONOTONIC=1 PYTHONPATH="$(CURDIR)/tests/anyday" faketime -f "$$by" \
		$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder -p no:cacheprovider --any-day $(ARGS) || exit 1; done

# The suite is no package that could be installed, so it is brought by hand: a checkout of theupdateframework/tuf-conformance.
# It pins other versions of python-tuf than ours, so it runs in an environment of its own. Some of its tests need faketime.
conformance: $(SUITES)/.installed ## run the public TUF conformance suite on the client (SUITE=DIR, a checkout of it)
	@test -d "$(SUITE)/tuf_conformance" || { echo "make conformance: which suite? make conformance SUITE=DIR" >&2; exit 2; }
	cd "$(SUITE)" && PATH="$(CURDIR)/$(SUITES)/bin:$$PATH" python -m pytest -p no:cacheprovider tuf_conformance \
		--entrypoint="$(CURDIR)/tests/conformance/kedge-conformance" $(ARGS)

# Likewise for sigstore/sigstore-conformance; kedge signs nothing, so that half of it is left out. KEDGE_SIGSTORE_ROOT names
# the trusted_root.json of the public-good instance, for the assets that bring none.
conformance-sigstore: $(VENV)/.developing ## run the public Sigstore conformance suite on the verifier (SUITE=DIR, a checkout of it)
	@test -d "$(SUITE)/test" || { echo "make conformance-sigstore: which suite? make conformance-sigstore SUITE=DIR" >&2; exit 2; }
	cd "$(SUITE)" && PATH="$(CURDIR)/$(BIN):$$PATH" python -m pytest -p no:cacheprovider test --skip-signing \
		--entrypoint="$(CURDIR)/tests/conformance/kedge-sigstore-conformance" $(ARGS)

# Hex's archive is in no package registry, so it is built from a checkout of hexpm/hex. Needs Debian's elixir.
mix: $(VENV)/.developing ## run the real mix on a repository that is signed here (HEX=DIR, a checkout of hexpm/hex)
	@test -f "$(HEX)/mix.exs" || { echo "make mix: which checkout? make mix HEX=DIR" >&2; exit 2; }
	KEDGE_HEX_CHECKOUT="$(abspath $(HEX))" $(BIN)/python -m pytest tests/interop/real_mix.py $(ARGS)

oracle: $(VENV)/.developing ## compare the client with python-tuf's on many thousand random repositories (takes minutes)
	KEDGE_ORACLE=long $(BIN)/python -m pytest tests/properties -s $(ARGS)

bench: $(VENV)/.developing ## measure a refresh and imports beside other clients (needs make peers; see benchmarks/README.md)
	$(BIN)/python benchmarks/imports.py
	$(BIN)/python benchmarks/refresh.py $(ARGS)

scale: $(VENV)/.developing ## build and read a repository of millions of targets, beside PEP 458's table (takes minutes)
	$(BIN)/python benchmarks/repository.py $(ARGS)

millions: $(VENV)/.developing ## build a repository of ten million targets (takes minutes, and 5 GB of disk)
	$(BIN)/python benchmarks/repository.py --targets 10000000 $(ARGS)

soak: $(VENV)/.developing ## play a year of one client: rotations, clock faults, forks, outages (DAYS=30, SEED=7; takes minutes)
	$(BIN)/python tests/soak/year.py --days $(or $(DAYS),365) --seed $(or $(SEED),1)

differential: $(VENV)/.developing ## try FILES=400 odd lockfiles for each real installer (needs make peers; takes minutes)
	KEDGE_DIFFERENTIAL=$(or $(FILES),400) $(BIN)/python -m pytest tests/differential -n $(JOBS) --dist load -rA $(ARGS)

attacks: $(VENV)/.developing ## run the attacks and faults, and print the table of their rows (ARGS="-k a2" for some)
	$(BIN)/python -m pytest tests/attacks $(ARGS)

smoke: build ## install the wheel under every Python 3.11 to 3.15 that is here (pyenv's too), and run the main commands
	$(BIN)/python tests/smoke/run.py "$$(ls dist/*.whl)" $(ARGS)

mutants: $(VENV)/.developing ## take out each check of the client, and print which test notices
	$(BIN)/python tests/mutants/mutants.py $(ARGS)

# atheris is no dependency, for it has wheels for Linux only: .venv/bin/python -m pip install atheris
fuzz: $(VENV)/.developing ## fuzz every parser of foreign bytes for SECONDS=120 in all (ARGS="http lockfile" for some)
	$(BIN)/python tests/fuzz/run.py --seconds $(or $(SECONDS),120) $(ARGS)

bits: $(VENV)/.developing ## change one bit in what libraries parse for us, 100,000 times (takes minutes; BITS=N for another number)
	KEDGE_BITS=$(or $(BITS),100000) $(BIN)/python -m pytest -n 0 tests/fuzz/test_bits.py $(ARGS)

lint: $(VENV)/.developing ## ruff, mypy and the import contracts
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.developing ## let ruff lay the code out
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

build: $(VENV)/.developing ## make dist/*.whl and dist/*.tar.gz
	$(BIN)/python -m build

.PHONY: docs reference
reference: $(VENV)/.installed ## write the pages of docs/reference that come from the code
	$(BIN)/python docs/reference/generate.py

docs: $(VENV)/.installed ## build the pages into site/ with mkdocs-material
	@test -x $(RELEASE)/docs/bin/mkdocs || { $(PYTHON) -m venv $(RELEASE)/docs && $(RELEASE)/docs/bin/python -m pip install --quiet --disable-pip-version-check 'mkdocs-material>=9.6'; }
	@NO_MKDOCS_2_WARNING=1 $(RELEASE)/docs/bin/mkdocs build --quiet --strict && echo "site/index.html"

# The initial roots that ship must last for whoever installs the release.
lasting: $(VENV)/.installed
	@$(BIN)/python metadata/check_anchor.py

# What a release consists of: two builds that agree to the byte, and a bill of materials (CycloneDX) of what an
# installation with the extra "cli" brings.
release: lasting build ## build again, compare, and write dist/kedge.cdx.json, the bill of materials
	@rm -rf build/again && $(BIN)/python -m build --outdir build/again >/dev/null
	@for file in build/again/*; do cmp "$$file" "dist/$${file##*/}"; done && echo "both builds are the same, byte by byte"
	@rm -rf $(RELEASE) && $(PYTHON) -m venv $(RELEASE)/installed && $(PYTHON) -m venv $(RELEASE)/tools
	@$(RELEASE)/installed/bin/python -m pip install --quiet --disable-pip-version-check "$$(ls dist/*.whl)[cli]"
	@$(RELEASE)/installed/bin/python -m pip uninstall --quiet --yes pip setuptools
	@$(RELEASE)/tools/bin/python -m pip install --quiet --disable-pip-version-check 'cyclonedx-bom>=7.1'
	@$(RELEASE)/tools/bin/cyclonedx-py environment --output-reproducible --pyproject pyproject.toml \
		--output-file dist/kedge.cdx.json $(RELEASE)/installed/bin/python
	@$(BIN)/python -c 'import json; print(len(json.load(open("dist/kedge.cdx.json"))["components"]), "components in dist/kedge.cdx.json")'

# It asks the vulnerability service of the package index, which not every network lets through.
audit: $(VENV)/.installed ## ask for known vulnerabilities of what is installed (needs that service)
	@test -x $(RELEASE)/audit/bin/pip-audit || { $(PYTHON) -m venv $(RELEASE)/audit && $(RELEASE)/audit/bin/python -m pip install --quiet 'pip-audit>=2.9'; }
	$(RELEASE)/audit/bin/pip-audit --strict --path "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"

# The tools that tests hold kedge against, each by name and version: the registry of the npm here says where they lie. No
# install script is run, and nothing is written outside $(PEERS). npm 12 and Corepack 0.36 want a newer node than Debian's.
# go-tuf is a library, of which a reader is built; a Go from 1.21 on fetches the newer one that go-tuf asks for.
peers: ## install tuf-js, @sigstore/tuf, go-tuf, npm, pnpm, Yarn 1 and 4, bun, Corepack, an old sigstore-python and a node, beside which tests run ours (needs npm and Go)
	@mkdir -p $(PEERS)/tarballs
	@tufjs=5.0.1; sigstore=4.0.2; \
	node -e 'process.exit(parseInt(process.versions.node) >= 20 ? 0 : 1)' || { tufjs=3.1.0; sigstore=3.1.1; }; \
	npm install --prefix $(PEERS) --no-save --no-package-lock --ignore-scripts --no-audit --no-fund --loglevel=error \
		"tuf-js@$$tufjs" "@sigstore/tuf@$$sigstore" npm@12.2.0 pnpm@12.21.0 yarn@1.22.22 @yarnpkg/cli-dist@4.18.1 bun@1.4.5 corepack@0.36.0 corepack-0.30@npm:corepack@0.30.0 \
		"node-$$(node -p 'process.platform + "-" + process.arch')@24.21.0"
	@rm -f $(PEERS)/node_modules/.package-lock.json
	@cd tests/interop/go-tuf-reader && go build -trimpath -buildvcs=false -o "$(CURDIR)/$(PEERS)/go-tuf-reader" .
	@cd $(PEERS)/tarballs && for package in pnpm@10.1.0 @yarnpkg/cli-dist@4.9.1; do npm pack --silent "$$package" >/dev/null; done
	@old=$(PEERS)/sigstore-python-3.0.0; test -d $$old || { $(PYTHON) -m venv $$old.new && \
	$$old.new/bin/python -m pip install --quiet --disable-pip-version-check sigstore==3.0.0 && mv $$old.new $$old; }

signers: $(VENV)/.developing ## install what keys on tokens, in OpenSSH files and in AWS KMS need, and sigstore-python, for the tests with real ones
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[cli,hsm,ssh,awskms,sigstore,qr]'

# versitygw is built from its source. Azurite lies in a folder of its own, or npm would take it for a stray one of the peers.
stores: $(VENV)/.developing ## install the object stores that tests publish to: versitygw and Azurite (needs Go and npm)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[cli,objectstore]'
	@mkdir -p $(STORES)
	@test -x $(STORES)/versitygw || GOBIN="$(CURDIR)/$(STORES)" GOFLAGS=-trimpath go install github.com/versity/versitygw/cmd/versitygw@v1.8.0
	@npm install --prefix $(STORES) --no-save --no-package-lock --ignore-scripts --no-audit --no-fund --loglevel=error azurite@3.35.0
	@rm -f $(STORES)/node_modules/.package-lock.json

clean: ## remove what was made here
	rm -rf fuzz-findings $(RELEASE) $(VENV) $(PEERS) $(STORES) $(SUITES) dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

# pip 25.1 is the first that reads dependency groups. The stamps are renewed when pyproject.toml changes.
$(VENV)/.pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "kedge needs Python 3.11 or later; say which: make PYTHON=python3.12 ...")'
	@$(PYTHON) -m venv $(VENV)
	@echo "setting up $(VENV) ..." >&2
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	@touch $@

$(VENV)/.installed: $(VENV)/.pip pyproject.toml
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[cli]'
	@touch $@

$(VENV)/.developing: $(VENV)/.installed pyproject.toml
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --group dev
	@touch $@

$(SUITES)/.installed: pyproject.toml
	@$(PYTHON) -m venv $(SUITES)
	@$(SUITES)/bin/python -m pip install --quiet --disable-pip-version-check --editable . 'pytest>=9' 'pytest-json-report>=1.5'
	@touch $@
