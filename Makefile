# Every target builds the environment it needs and says what it does:
# .venv-demo for `make demo`, .venv-bench for `make bench-peers`, .venv-oldest
# for `make test-oldest`, .venv-matrix for `make matrix`, .venv-docs for `make
# docs`, .venv for all others (tools/make_env.py).
# PYTHON=/path/to/python names the Python 3.10 or 3.11 to build them with.
SHELL := /bin/sh
.DEFAULT_GOAL := help

CODE := $(wildcard setup.py mmcv_ckpt_cli.py mmcv_ckpt_hooks tests configs demo tools benchmarks)
PY := .venv/bin/python

.PHONY: help
help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' \
		$(MAKEFILE_LIST)

.PHONY: demo
demo: env-demo  ## train on a real image, kill it half way, resume, list what is on disk (no compiler, no GPU)
	@.venv-demo/bin/python demo/run_demo.py plain

.PHONY: demo-mmseg
demo-mmseg: env-test  ## the same with mmsegmentation's own unmodified tools/train.py (compiles mmcv-full once)
	@$(PY) demo/run_demo.py mmseg

.PHONY: test
test: lint type  ## lint, type check and all tests on the full stack, in three processes, as tests wait a lot (one: PYTEST_ARGS=-n0); what CI runs
	@$(PY) -m pytest -ra --durations=15 -n 3 --dist loadfile $(PYTEST_ARGS)

.PHONY: test-oldest
test-oldest: env-oldest  ## the tests with torch 2.0.1 and mmcv 1.3.1, those that need mmsegmentation left out (no compiler)
	@.venv-oldest/bin/python -m pytest -ra $(PYTEST_ARGS)

.PHONY: matrix
matrix:  ## the tests on six versions of mmcv, each with two of torch; the table goes into docs/versions.md (2 hours; MATRIX_ARGS=--short: minutes)
	@python=$$(sh tools/find_python.sh) && "$$python" tools/matrix.py $(MATRIX_ARGS)

.PHONY: lint
lint: env-test  ## flake8, isort and yapf, as OpenMMLab sets them; nothing newer than Python 3.8; changes nothing
	@$(PY) -m flake8 $(CODE)
	@$(PY) -m isort --check-only --diff $(CODE)
	@$(PY) -m yapf --diff --recursive --parallel $(CODE)
	@$(PY) tools/python38.py

.PHONY: type
type: env-test  ## mypy, strict, on the package
	@$(PY) -m mypy

.PHONY: docs
docs: env-docs  ## the documents as a site, in site/: 3 seconds, its environment half a minute once (neither torch nor mmcv)
	@NO_MKDOCS_2_WARNING=1 .venv-docs/bin/python -m mkdocs build --strict
	@echo "site/index.html is the first page; with search: .venv-docs/bin/python -m http.server -d site"

.PHONY: drawings
drawings:  ## docs/architecture/*.dot drawn anew into the SVG beside each (needs graphviz)
	@python=$$(sh tools/find_python.sh) && "$$python" tools/draw.py

.PHONY: bench
bench: env-test  ## what saves and resumes cost, against stock mmcv, the raw disk and plain S3 clients (8 minutes); kept in benchmarks/results, of which `make docs` makes a page
	@$(PY) benchmarks/bench.py --json benchmarks/results/bench.json $(BENCH_ARGS)

.PHONY: bench-peers
bench-peers: env-bench  ## the same state saved by torch.distributed.checkpoint, Lightning, safetensors
	@.venv-bench/bin/python benchmarks/bench.py --parts peers \
		--json benchmarks/results/peers.json $(BENCH_ARGS)

.PHONY: bench-growth
bench-growth: env-test  ## saves of 0.1 to 6 GB, drawn into docs/growth.svg (12 GB of free disk)
	@$(PY) benchmarks/bench.py --sizes 0.1,0.7,3,6 --plot docs/growth.svg \
		--json benchmarks/results/growth.json $(BENCH_ARGS)

.PHONY: mutants
mutants: env-test  ## break one important line at a time; each break must fail its test
	@$(PY) tools/mutants.py $(MUTANTS_ARGS)

.PHONY: soak
soak: env-test  ## kill real runs 1,000 times at random moments and check what is left (SOAK_ARGS='--kills 5000 --seed 1', '--matrix')
	@PYTHONPATH=tests/crash:tests:. OMP_NUM_THREADS=1 \
		$(PY) tests/crash/soak.py $(SOAK_ARGS)

.PHONY: flips
flips: env-test  ## 10,000 flipped bits and 1,000 truncations of real checkpoints, counted (`make test` makes a quarter)
	@MMCV_CKPT_ALL_FLIPS=1 $(PY) -m pytest -q tests/damage

.PHONY: clean
clean:  ## delete the environments, the demo's runs and caches of this checkout; built wheels and runs of your own are kept
	rm -rf .venv .venv-demo .venv-bench .venv-oldest .venv-matrix .venv-docs \
		site work_dirs/nuclei_fcn work_dirs/nuclei_fcn_mmseg work_dirs/nuclei_tiles build dist ./*.egg-info .mypy_cache .pytest_cache .hypothesis .coverage htmlcov

.PHONY: env-demo env-test env-bench env-oldest env-docs
env-demo env-test env-bench env-oldest env-docs: env-%:
	@python=$$(sh tools/find_python.sh) && "$$python" tools/make_env.py $*
