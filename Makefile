# make demo: the whole method on the synthetic world; make test: the test suite. Both make .venv if it is not there.
PYTHON ?= python3
VENV := .venv
INSTALLED := $(VENV)/.installed
# An environment of its own for object stores, with the oldest TensorFlow that the package runs on.
VENV_IO := .venv-io
INSTALLED_IO := $(VENV_IO)/.installed

.PHONY: demo test test_slow test_io lint clean

demo: $(INSTALLED)
	$(VENV)/bin/python -m flood_distill.reproduce --gin_file=demo.gin --work_dir=runs/demo
	@echo "The report is in runs/demo/report.md"

test: $(INSTALLED)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	TF_CPP_MIN_LOG_LEVEL=2 $(VENV)/bin/python -m pytest -n 2 --dist loadfile --durations=10

test_slow: $(INSTALLED)
	TF_CPP_MIN_LOG_LEVEL=2 $(VENV)/bin/python -m pytest -n 2 --dist loadfile --durations=10 tests/slow

test_io: $(INSTALLED_IO)
	TF_CPP_MIN_LOG_LEVEL=3 $(VENV_IO)/bin/python -m pytest -n 2 --dist loadfile --durations=10 \
		tests/io tests/export_test.py tests/object_store_test.py tests/records_test.py tests/trainer_test.py

lint: $(INSTALLED)
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

$(INSTALLED): setup.py pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --upgrade pip
	$(VENV)/bin/python -m pip install --quiet --editable '.[dev]'
	touch $@

$(INSTALLED_IO): setup.py pyproject.toml
	$(PYTHON) -m venv $(VENV_IO)
	$(VENV_IO)/bin/python -m pip install --quiet --upgrade pip
	$(VENV_IO)/bin/python -m pip install --quiet --editable '.[io,iotest,test]'
	touch $@

clean:
	rm -rf $(VENV) $(VENV_IO) runs build *.egg-info
