# make demo: the whole method on the synthetic world; make test: the test suite. Both make .venv if it is not there.
PYTHON ?= python3
VENV := .venv
INSTALLED := $(VENV)/.installed
# An environment of its own for object stores, with the oldest TensorFlow that the package runs on.
VENV_IO := .venv-io
INSTALLED_IO := $(VENV_IO)/.installed

.PHONY: demo test test_slow test_long test_io ready_student lint clean

demo: $(INSTALLED)
	$(VENV)/bin/python -m flood_distill.reproduce --gin_file=demo.gin --work_dir=runs/demo
	@echo "The report is in runs/demo/report.md"

test: $(INSTALLED)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	TF_CPP_MIN_LOG_LEVEL=2 $(VENV)/bin/python -m pytest -n 2 --dist loadfile --durations=10

test_slow: $(INSTALLED)
	TF_CPP_MIN_LOG_LEVEL=2 $(VENV)/bin/python -m pytest -n 2 --dist loadfile --durations=10 tests/slow

test_long: $(INSTALLED)
	TF_CPP_MIN_LOG_LEVEL=2 $(VENV)/bin/python -m pytest -n 2 --dist loadfile --durations=10 tests/long

test_io: $(INSTALLED_IO)
	TF_CPP_MIN_LOG_LEVEL=3 $(VENV_IO)/bin/python -m pytest -n 2 --dist loadfile --durations=10 \
		tests/io tests/export_test.py tests/object_store_test.py tests/records_test.py tests/trainer_test.py

# The student that `predict` takes where no model is named: the demo's. CHIPS=R scores it on real Sen1Floods11 chips in R.
STUDENT := student_distill_seed0
ready_student: demo
	$(if $(CHIPS),$(VENV)/bin/python -m flood_distill.evaluate --model=runs/demo/models/$(STUDENT) \
		--data_dir=$(CHIPS) --dataset=sen1floods11/hand --split=test --output_dir=runs/ready_student/real)
	rm -rf runs/ready_student/package
	$(VENV)/bin/python -m flood_distill.export --model_dir=runs/demo/models/$(STUDENT) \
		--export_dir=runs/ready_student/package --metrics=runs/demo/evaluation/$(STUDENT)/test/metrics.json \
		$(if $(CHIPS),--metrics=runs/ready_student/real/metrics.json)
	rm -rf flood_distill/ready_student_model
	cp -r runs/ready_student/package/1 flood_distill/ready_student_model

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
