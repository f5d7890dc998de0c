# Signalbox: `make run` for a first look, `make test` before you commit.

.PHONY: help run test check bench nemesis sqlx clean-dev
.DEFAULT_GOAL := help

export ENGINE
export SQLX_OFFLINE ?= true

help: ## says what there is to make
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12
	@echo
	@echo 'run takes ENGINE=docker (a private container engine) or ENGINE=process (none), SIGNALBOX_LISTEN,'
	@echo 'SIGNALBOX_DEV_DIR, and ANTHROPIC_API_KEY or ANTHROPIC_API_KEY_FILE; without a key it is a rehearsal.'

run: ## sets up what is missing and starts it all; Ctrl-C stops it
	@exec deploy/dev/run

test: ## sets up what is missing and runs every test
	@exec deploy/dev/test

check: ## the quick loop: format, lints, unit and integration tests
	@exec deploy/dev/test quick

bench: ## measures what the README quotes, beside its floors
	@deploy/dev/with-stores cargo bench --quiet --bench pages
	@deploy/dev/with-stores cargo bench --quiet --bench live
	@deploy/dev/with-stores cargo bench --quiet --bench serve
	@deploy/dev/with-stores cargo bench --quiet --bench frame
	@deploy/dev/with-stores cargo bench --quiet --bench events
	@deploy/dev/with-stores cargo bench --quiet --bench health
	@deploy/dev/with-stores --engine cargo bench --quiet --bench terminate
	@deploy/dev/with-stores benches/peers/run

nemesis: ## ten minutes of random runs, wishes and faults, then a checker; SECONDS=, SEED=
	@SIGNALBOX_NEMESIS=$(or $(SECONDS),600) SIGNALBOX_NEMESIS_SEED=$(SEED) SIGNALBOX_NEMESIS_CHECK=$(CHECK) deploy/dev/nemesis

sqlx: ## writes .sqlx anew, from the queries in the code and the migrations
	@exec deploy/dev/sqlx

clean-dev: ## stops what was left running and removes .dev with its data
	@exec deploy/dev/clean
