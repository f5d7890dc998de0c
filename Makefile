# Signalbox: `make run` for a first look, `make test` before you commit.

# Each has stores of its own and the machine to itself, or refuses.
BENCHES := pages run live serve frame events health terminate peers

.PHONY: help run test check bench $(BENCHES:%=bench-%) nemesis sqlx clean-dev
.DEFAULT_GOAL := help

export ENGINE
export SQLX_OFFLINE ?= true

help: ## says what there is to make
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12
	@echo
	@echo 'run takes ENGINE=docker (a private container engine) or ENGINE=process (none), SIGNALBOX_LISTEN,'
	@echo 'SIGNALBOX_DEV_DIR, and ANTHROPIC_API_KEY or ANTHROPIC_API_KEY_FILE; without a key it is a rehearsal.'
	@echo 'bench takes BENCH_ANYWAY=1, which shows the figures of a busy machine, each marked; bench-live is one of them:'
	@echo '$(BENCHES).'

run: ## sets up what is missing and starts it all; Ctrl-C stops it
	@exec deploy/dev/run

test: ## sets up what is missing and runs every test
	@exec deploy/dev/test

check: ## the quick loop: format, lints, unit and integration tests
	@exec deploy/dev/test quick

bench: $(BENCHES:%=bench-%) ## measures what the README quotes, beside its floors, on a quiet machine

# One after the other.
.NOTPARALLEL:
$(BENCHES:%=bench-%): bench-%:
	@deploy/dev/with-stores $(if $(filter terminate,$*),--engine) cargo bench --locked --quiet --bench $*

nemesis: ## ten minutes of random runs, wishes and faults, then a checker; SECONDS=, SEED=
	@SIGNALBOX_NEMESIS=$(or $(SECONDS),600) SIGNALBOX_NEMESIS_SEED=$(SEED) SIGNALBOX_NEMESIS_CHECK=$(CHECK) deploy/dev/nemesis

sqlx: ## writes .sqlx anew, from the queries in the code and the migrations
	@exec deploy/dev/sqlx

clean-dev: ## stops what was left running and removes .dev with its data
	@exec deploy/dev/clean
