# The commands of this repository; `make` lists them.
# A stamp in .venv says that an install came to its end; it is older than pyproject.toml or the lock when they changed.

VENV := .venv
BIN := $(VENV)/bin
DEMO := $(VENV)/demo.stamp
TEST := $(VENV)/test.stamp
# Files at a time. Those that start processes wait a third of their time, so that on two cores four keep both busy;
# unit tests never wait. They have processes of their own: Hypothesis sees it when a thread that some package left behind
# draws from Python's shared generator.
PARALLEL := $(BIN)/pytest --dist loadfile --no-loadscope-reorder -m 'not alone' -n
# Not empty when .venv is missing, or when the Python that it was made from is gone.
BROKEN := $(shell test -x $(BIN)/python || echo broken)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test servers litellm lint types unit test-vllm bench fuzz crash-matrix chaos lock clean broken

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

demo: $(DEMO) ## train the quickstart recipe on this machine and follow it; FT_HOME says where its state is kept
	$(BIN)/ft submit recipes/quickstart.yaml --follow

test: $(TEST) servers litellm lint types ## set everything up, then lint, types, import contracts and all tests (what CI runs)
	$(PARALLEL) 4 tests/stack tests/cli tests/flow tests/wire tests/contract
	$(PARALLEL) 2 tests/unit
	$(BIN)/pytest -m alone $$(grep -rlw alone tests --include='test_*.py')

servers: ## install Redis and PostgreSQL where they are missing; the tests start their own
	@tests/setup/servers.sh

litellm: $(TEST) ## install the LiteLLM proxy that the tests start, beside ours, in .venv/litellm
	@tests/setup/apart.sh litellm

lint: $(TEST) ## ruff, formatting, import contracts
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports

types: $(TEST) ## mypy, strict
	$(BIN)/mypy

unit: $(TEST) ## the tests that need no server
	$(BIN)/pytest tests/unit

test-vllm: $(TEST) ## the vllm gateway against the real vLLM, for processors: 3.4 GB in .venv/vllm; not part of `make test`
	@tests/setup/apart.sh vllm
	$(BIN)/pytest tests/optin/test_vllm.py

bench: $(TEST) ## start-up time, the check of 1 GB of training data, token counting, 1000 hosted jobs, the queue, against their targets
	$(BIN)/python tests/bench/startup.py
	$(BIN)/python tests/bench/data.py
	$(BIN)/python tests/bench/tokens.py
	$(BIN)/python -m tests.bench.hosted 1000
	$(BIN)/python -m tests.bench.job_queue

fuzz: $(TEST) ## broken training data, forty times as many examples as in `make test`; half an hour
	FT_FUZZ=40 $(BIN)/pytest tests/unit/data/test_fuzz.py

crash-matrix: $(TEST) ## play everything that can go wrong around a hosted submit, and draw docs/crash-matrix.md; ten minutes
	$(BIN)/python -m tests.bench.crash_matrix

chaos: $(TEST) servers ## 1000 jobs while workers, trainers, Redis and PostgreSQL die or stop (docs/chaos.md); fifteen minutes
	$(BIN)/python -m tests.bench.chaos

lock: $(TEST) ## pin what is installed in .venv in requirements.lock
	$(BIN)/python tests/setup/lock.py > requirements.lock.new
	mv requirements.lock.new requirements.lock
	@touch $(DEMO) $(TEST)

clean: ## remove caches and build output; .venv stays
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find finetune workers tests -name __pycache__ -prune -exec rm -rf {} +

$(DEMO): EXTRAS := local,openai,eval
$(DEMO): STAMPS := $(DEMO)
$(TEST): EXTRAS := local,data,eval,privacy,openai,mistral,vertex,bedrock,otel,postgres,dev
# What the tests need includes what the demo needs.
$(TEST): STAMPS := $(DEMO) $(TEST)
# torch goes first and alone: no other requirement can then ask for another build of it.
$(DEMO) $(TEST): pyproject.toml requirements.lock $(BROKEN)
	@rm -f $(STAMPS)
	@$(BIN)/python -c 'import pip' 2>/dev/null || tests/setup/venv.sh $(VENV)
	@echo "installing .[$(EXTRAS)] into $(VENV)"
	@$(BIN)/python -m pip install -q -c requirements.lock torch
	@$(BIN)/python -m pip install -q -c requirements.lock -e '.[$(EXTRAS)]'
	@touch $(STAMPS)
