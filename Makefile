# make demo   train a small dynamic detector (8 minutes), draw AP against cost, export it, run it at two speeds
# make test   the tests, about 14 minutes on two cores;  make slow   the rest
# make quick  those of the parts and of two detectors, about 3 minutes
# make lint   ruff, the order of the packages (import-linter), types (mypy)
# make lowest common test, weights, pictures and faults with the oldest packages that are allowed
# make docs   the documentation as a site, in site/
# make bench  the timings of docs/results.md

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO ?= demo
WORKERS ?= 2

LOWEST := .venv-lowest

# Folders whose tests train no whole detector, and the common test of a static and a dynamic one.
QUICK := $(addprefix tests/,backbones data evaluation heads layers losses necks ops visualization)
QUICK += tests/detectors/common_test.py tests/detectors/postprocess_test.py
QUICK += $(filter-out %/docs_test.py %/profiling_test.py %/compatibility_test.py, \
    $(wildcard tests/*_test.py))

# The tests run in three parts, each in new processes: TensorFlow's oneDNN keeps what it compiles for
# each shape of a convolution, a gigabyte and more in a process that has seen all detectors.
FIRST := tests/detectors
SECOND := $(addprefix tests/,weights serving nas training)
THIRD := $(filter-out $(FIRST) $(SECOND),$(patsubst %/,%,$(wildcard tests/*/)) $(wildcard tests/*_test.py))

.PHONY: demo test quick slow lint lowest docs bench clean

# The stamp is newer than the metadata exactly when the environment is up to date.
$(VENV)/.installed: pyproject.toml setup.py $(wildcard custom_ops/*)
	@echo "Making an environment in $(VENV) and installing tfdet (a few minutes the first time)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[dev]"
	@touch $@

# The demo is the commands that a user would type; Make prints each before it runs.
demo: $(VENV)/.installed
	$(BIN)/tfdet-data make shapes --split=val --count=12 --output=$(DEMO)/images
	$(BIN)/tfdet-infer --model_name=fcos-nano --weights=shapes --input='$(DEMO)/images/val/*' --output_dir=$(DEMO)/first --min_score=0.5
	$(BIN)/tfdet-train --hparams=dynamicdet/yolov7_nano_demo_joint --model_dir=$(DEMO)/joint
	$(BIN)/tfdet-train --hparams=dynamicdet/yolov7_nano_demo_router --pretrained=$(DEMO)/joint --model_dir=$(DEMO)/model
	$(BIN)/tfdet-eval --model_dir=$(DEMO)/model --data=shapes:val --tradeoff --figure_out=$(DEMO)/tradeoff.png
	$(BIN)/tfdet-export --model_dir=$(DEMO)/model --output=$(DEMO)/saved_model
	$(BIN)/tfdet-infer --saved_model=$(DEMO)/saved_model --input='$(DEMO)/images/val/*' --output_dir=$(DEMO)/fast --effort=0.1
	$(BIN)/tfdet-infer --saved_model=$(DEMO)/saved_model --input='$(DEMO)/images/val/*' --output_dir=$(DEMO)/thorough --effort=0.7
	@echo
	@echo "a first picture     $(DEMO)/first"
	@echo "trained models      $(DEMO)/joint, $(DEMO)/model    (training curves: curve.png)"
	@echo "AP against cost     $(DEMO)/tradeoff.png"
	@echo "SavedModel          $(DEMO)/saved_model"
	@echo "detections drawn    $(DEMO)/fast, $(DEMO)/thorough  (one model at two speeds)"

test: $(VENV)/.installed
	@failed=0; for part in "$(FIRST)" "$(SECOND)" "$(THIRD)"; do \
	    $(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile $$part || failed=1; \
	done; exit $$failed

quick: $(VENV)/.installed
	@$(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile $(QUICK) \
	    -k "not common_test or fcos-test or dy-efficientdet-test"

slow: $(VENV)/.installed
	@$(BIN)/python -m pytest -q -m slow

lint: $(VENV)/.installed
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports
	@$(BIN)/mypy

# "tensorflow>=2.18" in the list of dependencies becomes tensorflow==2.18.
$(LOWEST)/.installed: pyproject.toml
	@echo "Making an environment of the oldest packages in $(LOWEST) (a few minutes the first time)"
	@$(PYTHON) -m venv $(LOWEST)
	@$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check -e ".[test]" \
	    $$(sed -n 's/^  "\([A-Za-z-]*\)>=\([0-9.]*\)",$$/\1==\2/p' pyproject.toml)
	@touch $@

lowest: $(LOWEST)/.installed
	@$(LOWEST)/bin/python -m pip list --disable-pip-version-check | grep -iE '^(tensorflow|keras|numpy) '
	@$(LOWEST)/bin/python -m pytest -q tests/detectors/common_test.py tests/weights \
	    tests/visualization tests/faults

# The site's own packages come into the same environment, since the API pages read the code.
$(VENV)/.docs: $(VENV)/.installed
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[docs]"
	@touch $@

docs: $(VENV)/.docs
	@NO_MKDOCS_2_WARNING=1 TF_CPP_MIN_LOG_LEVEL=3 $(BIN)/python -m mkdocs build --strict --quiet
	@echo "the site is site/index.html; with its search: $(PYTHON) -m http.server -d site"

bench: $(VENV)/.installed
	@$(BIN)/python -m benchmarks.efficientdet

clean:
	rm -rf $(VENV) $(LOWEST) $(DEMO) build site *.egg-info
