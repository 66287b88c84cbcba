# make run    the main job on the built-in phantom study, environment included
# make test   the tests
# make check  formatting, lint and types

PYTHON ?= $(shell command -v python3.11 || command -v python3)
CORES ?= all
VENV := .venv
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
unexport PYTHONPATH PYTHONHOME

.PHONY: run test check format clean

# A Snakemake that was killed leaves its locks behind, which stop the next one. The kernel gives back
# run.lock however its holder ends: who has it knows that no other run is alive here.
run: $(VENV)/run.stamp
	@mkdir -p .snakemake/locks
	@exec 9>> .snakemake/run.lock; \
	if ! python -c "import fcntl; fcntl.flock(9, fcntl.LOCK_EX | fcntl.LOCK_NB)" 2> /dev/null; then \
		echo "another run is going on in $(CURDIR)"; exit 1; fi; \
	if [ -n "$$(ls .snakemake/locks)" ]; then snakemake --unlock; fi; \
	snakemake --profile config/profiles/local --cores $(CORES)

test: $(VENV)/dev.stamp
	python -m pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder

check: $(VENV)/dev.stamp
	ruff check .
	ruff format --check .
	snakefmt --check Snakefile rules
	mypy src tests
	snakemake --lint

format: $(VENV)/dev.stamp
	ruff check --fix .
	ruff format .
	snakefmt Snakefile rules

clean:
	rm -rf $(VENV) .snakemake .pytest_cache .mypy_cache .ruff_cache

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/run.stamp: envs/requirements.txt | $(VENV)/bin/python
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r envs/requirements.txt
	touch $@

$(VENV)/dev.stamp: envs/requirements-dev.txt $(VENV)/run.stamp
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r envs/requirements-dev.txt
	touch $@
