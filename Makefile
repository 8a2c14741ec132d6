# Targets run in the environment .venv; make builds it first, and touches .venv/.ready when it is complete.
PYTHONS = python3.11 python3.12 python3.13 python3
FITS = import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))
PYTHON ?= $(shell for name in $(PYTHONS); do $$name -c '$(FITS)' 2> /dev/null && echo $$name && break; done)
export PATH := $(CURDIR)/.venv/bin:$(PATH)
.DEFAULT_GOAL := help
.PHONY: help run test fuzz faults lint schema bench bench-ours bench-features
BENCH_DATA ?= data/simulated/thumos14
BENCH_VIDEO ?= data/demo/videos/test/demo_test_0001.mp4

help: ## show this
	@awk -F ' *:.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' Makefile

.venv/.ready: pyproject.toml constraints.txt workflow/versions.txt
	$(or $(PYTHON),$(error found no Python 3.11, 3.12 or 3.13: install one, or run `make PYTHON=/path/to/python3.12`)) -m venv .venv
	.venv/bin/python -m pip install --quiet --no-compile --constraint constraints.txt --editable '.[dev]'
	@# without decord, which it requires but nobody imports
	.venv/bin/python -m pip install --quiet --no-compile --constraint constraints.txt --no-deps mmaction2
	@# pip would compile on one core, and for twice as long; files of other Pythons cannot be compiled
	.venv/bin/python -m compileall -qq -j 0 -x '/tests?/' .venv/lib > /dev/null || true
	@# on its first import, yapf writes its grammar to the user's cache; processes that start together would read half of it
	.venv/bin/python -c 'import yapf'
	touch $@

run: .venv/.ready ## build everything that is not up to date, and print the benchmark table
	um build
	um table --rows tables

test: .venv/.ready ## run the tests; UM_REFERENCE_DATA=<folder> adds those that need reference data
	OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= python -m pytest --numprocesses 4 --dist loadgroup --no-loadscope-reorder

fuzz: .venv/.ready ## feed randomly damaged files to every reader, UM_FUZZ=SECONDS each (default 30: 15 minutes in all)
	UM_FUZZ=$${UM_FUZZ:-30} python -m pytest tests/unit/test_fuzz.py

faults: .venv/.ready ## damage files, kill `um record` and `um restore` at every point, follow their hints; interrupt every stage; lose jobs and nodes; draw 500 examples of each property; half an hour
	UM_FAULTS=1 OMP_NUM_THREADS=1 python -m pytest --numprocesses 2 --dist load $(addprefix tests/workflow/test_, faults.py interruptions.py provenance.py remotes.py shards.py slurm.py truth.py) tests/e2e/test_install.py $(addprefix tests/unit/test_, backbones.py damage.py doctor.py extract.py)
	UM_FAULTS=1 OMP_NUM_THREADS=1 python -m pytest --numprocesses 2 --dist load -m hypothesis tests/unit

lint: .venv/.ready ## check style, types and rules
	ruff check
	ruff format --check
	mypy
	snakefmt --check Snakefile workflow
	@# but for conda and containers: jobs run in this environment, whose versions are pinned
	! snakemake --lint 2>&1 | grep -e '^    \* ' -e Error | grep -v 'Specify a conda environment or container'

schema: .venv/.ready ## rewrite workflow/schemas/params.schema.json after a change of src/um/params.py
	python -c 'from um.params import schema; print(schema(), end="")' > workflow/schemas/params.schema.json

$(BENCH_DATA): | .venv/.ready
	um simulate --dataset thumos14 --out $@

bench: .venv/.ready | $(BENCH_DATA) ## time the method against a plain implementation, on simulated THUMOS14
	PYTHONPATH=tests python benchmarks/method.py $(BENCH_DATA)

bench-ours: .venv/.ready | $(BENCH_DATA) ## time and memory of ours beside the official method
	PYTHONPATH=tests python benchmarks/method.py $(BENCH_DATA) --parts cost
	PYTHONPATH=tests python benchmarks/method.py $(BENCH_DATA) --parts memory --dataset thumos14
	PYTHONPATH=tests python benchmarks/method.py $(BENCH_DATA) --parts memory --dataset thumos14 --variant official

bench-features: .venv/.ready ## measure extraction of BENCH_VIDEO, beside MMAction2's: speed, memory; minutes on a CPU
	python benchmarks/features.py $(BENCH_VIDEO) --parts pipeline mmaction
	python benchmarks/features.py $(BENCH_VIDEO) --parts memory --crop 64
