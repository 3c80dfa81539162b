# Every target starts from nothing: the virtual environment is made when it is missing or out of date.
PYTHON ?= python3
VENV ?= .venv
# Further arguments for pip, such as an index of CPU builds or an older "transformers==5.10.*".
PIP_ARGS ?=
# Where torch's CPU build is asked for first, so that no machine downloads gigabytes of CUDA for
# nothing. Where it cannot be reached, pip takes torch from the usual registry. For a GPU: TORCH_INDEX=
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
BIN := $(VENV)/bin
STUDENT := model_cards/lanmt-multi30k-deen
SCORE := model_cards/lanmt-score-multi30k-deen
REFINEMENT := model_cards/refinement-nar-multi30k-deen
# Results that belong to no committed model and stand in the README.
FIGURES := training/results/base-cpu.json training/results/base-cpu-latent.json training/results/base-cpu-latent-two-threads.json training/results/lanmt-multi30k-deen-raw.json training/results/refinement-nar-multi30k-deen-raw.json training/results/multi30k-en-repair.json training/results/lanmt-target-multi30k-deen.json
CARDS := hf-nar card model_cards/*/ $(addprefix --results ,$(FIGURES)) --readme README.md
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help setup demo test check check-cards fix test-slow cards clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(firstword $(MAKEFILE_LIST)) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

setup: $(STAMP) ## Create .venv and install hf_nar into it, with what tests and checks need

$(STAMP): pyproject.toml constraints-cpu.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -qq --retries 1 -c constraints-cpu.txt $(addprefix --extra-index-url ,$(TORCH_INDEX)) torch
	$(BIN)/python -m pip install --quiet -c constraints-cpu.txt $(PIP_ARGS) -e ".[dev]"
	@touch $@

demo: $(STAMP) ## Translate four German sentences on the CPU, offline, and show every draft
	HF_HUB_OFFLINE=1 $(BIN)/hf-nar translate model_cards/lanmt-multi30k-deen --input model_cards/demo.de --device cpu --trace

test: $(STAMP) ## Run the fast tests: no GPU, no network
	$(BIN)/python -m pytest

check: $(STAMP) ## Lint, check the format, the types and that cards agree with their results
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/$(CARDS) --check

check-cards: $(STAMP) ## Check that cards and README agree with their results
	$(BIN)/$(CARDS) --check

fix: $(STAMP) ## Format, and repair what ruff can repair
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test-slow: $(STAMP) ## Run the tests that take minutes
	$(BIN)/python -m pytest -m 'slow and not gpu and not hub'

cards: $(STAMP) ## Write the model cards, the README's tables and its pictures again from their results
	$(BIN)/$(CARDS)
	$(BIN)/hf-nar plot iterations $(STUDENT)/results.json training/results/lanmt-multi30k-deen-raw.json \
		model_cards/teacher-multi30k-deen/results.json --output $(STUDENT)/iterations.svg \
		--label "student of the teacher" --label "raw targets" \
		--label teacher
	$(BIN)/hf-nar plot pareto $(STUDENT)/results.json --output $(STUDENT)/pareto.svg
	$(BIN)/hf-nar plot drafts $(STUDENT)/results.json --sentence 3 --output $(STUDENT)/drafts.svg
	$(BIN)/hf-nar plot iterations $(SCORE)/results.json --output $(SCORE)/iterations.svg \
		--metric bleu --metric log_likelihood --metric marginal
	$(BIN)/hf-nar plot latent-field training/results/latent-field.json --output $(SCORE)/latent-field.svg
	$(BIN)/hf-nar plot adaptive $(REFINEMENT)/results.json --output $(REFINEMENT)/adaptive.svg
	$(BIN)/hf-nar plot iterations $(REFINEMENT)/results.json $(STUDENT)/results.json \
		model_cards/teacher-multi30k-deen/results.json --output $(REFINEMENT)/iterations.svg \
		--label "in token space" --label LaNMT --label teacher
	$(BIN)/hf-nar plot latency training/results/base-cpu-lengths.json --output training/results/latency.svg

clean: ## Remove the virtual environment, caches and builds
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
