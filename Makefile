# `make quickstart` and `make test` work on a fresh clone: the first call sets up .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
TINY := models/tiny-llama
CORPUS := data/synthetic.jsonl

# Nothing that runs here may reach a model hub or report usage.
quickstart test check exhaustive: export HF_HUB_OFFLINE = 1
quickstart test check exhaustive: export HF_HUB_DISABLE_TELEMETRY = 1
quickstart test check exhaustive: export TOKENIZERS_PARALLELISM = false

# Run on the CPU even if there are GPUs: the results were measured there, and with several GPUs a command would ask which to
# use.
quickstart test check exhaustive: export CUDA_VISIBLE_DEVICES =

.PHONY: setup quickstart test check exhaustive clean

setup: $(READY)

$(READY): pyproject.toml requirements.txt scripts/install.sh
	@PYTHON='$(PYTHON)' scripts/install.sh $(VENV) deepspeed,dev

$(CORPUS): $(READY)
	@rm -f $@
	@$(BIN)/qdsft data synth --language en,ko --rows 10000 --seed 0 --max-steps 3 --output $@

quickstart: $(READY) $(CORPUS)
	@$(BIN)/python scripts/make_tiny_model.py --architecture llama --hidden-size 128 --layers 3 --tie-embeddings --corpus $(CORPUS) $(TINY)
	@$(BIN)/accelerate launch --quiet --config_file accelerate_configs/cpu.yaml scripts/run_sft.py recipes/tiny/full.yaml $$(test ! -e outputs/tiny-full/run.json || echo --resume)
	@$(BIN)/qdsft evaluate outputs/tiny-full --baseline
	@echo "Two new questions, decomposed:"
	@$(BIN)/qdsft decompose outputs/tiny-full "Which films star both Finn Pike and Leon Marsh?"
	@$(BIN)/qdsft decompose outputs/tiny-full "넬 렐과 테사 렐이 모두 나온 영화는 무엇인가요?"
	@echo "report: outputs/tiny-full/report.html"

# One process per core with one thread each: tiny models do not gain from more threads.
test check exhaustive: export OMP_NUM_THREADS = 1
PARALLEL := -n auto --dist worksteal

test: $(READY)
	@$(BIN)/python -m pytest $(PARALLEL) -m "not exhaustive"

exhaustive: $(READY)
	@$(BIN)/python -m pytest $(PARALLEL) -m exhaustive

check: $(READY)
	@$(BIN)/ruff format --check --quiet . || { echo "run: $(BIN)/ruff format ."; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/codespell
	@$(BIN)/mypy
	@$(BIN)/python scripts/make_schema.py --check
	@$(BIN)/python -m pytest $(PARALLEL) -m "not slow and not exhaustive" -q

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache build dist *.egg-info outputs/tiny-full $(TINY) $(CORPUS)
