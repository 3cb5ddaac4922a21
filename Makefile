# `make demo` shows Weir at work, `make test` runs every test, `make check` and `make guard` everything else that must hold.
# Nothing has to be installed first: tools/prerequisites does it, or says what is missing.

CARGO ?= cargo
# Of `make bench-l4`, `make bench-cache` and `make bench-peers`; `PROFILE=bench-quick` builds faster.
PROFILE ?= release

.PHONY: help demo build test test-browser test-api test-docker image check fmt lint docs guard guard-update bench bench-balance bench-l4 bench-cache bench-peers prerequisites test-tools

help:
	@echo 'make demo    build Weir and run it in front of backends of its own'
	@echo 'make build   the release binary: target/release/weir'
	@echo 'make test    all tests'
	@echo 'make test-browser, make test-api   parts of it: the dashboard in Chromium, the admin API against its document'
	@echo 'make test-docker   the image and the Compose demo on a real engine; WEIR_IMAGE=weir for the image of `make image`'
	@echo 'make image   the image: weir:latest'
	@echo 'make check   formatting, lints, documentation'
	@echo 'make guard   instructions and allocations of a request, held against a baseline; make guard-update writes that anew'
	@echo 'make bench   benchmarks'
	@echo 'make bench-balance   how each strategy treats a slow and a failing endpoint, under load; three minutes'
	@echo 'make bench-l4        layer 4 beside HAProxy and nginx: CPU, memory, latency; five minutes'
	@echo 'make bench-peers     the scoreboard, HTTP beside nginx, HAProxy and Envoy: CPU, rates, latency, memory; an hour'
	@echo 'make bench-cache     hits beside nginx and Varnish: CPU, rate, latency, memory; three minutes'

# Built for a short wait; `make build` builds for speed.
demo: prerequisites
	$(CARGO) build --profile demo --locked
	target/demo/weir demo

build: prerequisites
	$(CARGO) build --release --locked

test: prerequisites test-tools
	$(CARGO) test --locked
	WEIR_TEST_DRIVER=pingora $(CARGO) test --locked --test it --test conformance
	@$(MAKE) --no-print-directory test-browser test-api

# The dashboard in headless Chromium; `WEIR_SCREENSHOTS=120` takes the pictures of the README after so many seconds.
test-browser: prerequisites
	@CARGO='$(CARGO)' sh tools/test-browser

# The admin API against its OpenAPI document.
test-api: prerequisites
	@CARGO='$(CARGO)' sh tools/test-api

# Around the binary of a debug build, unless WEIR_IMAGE names an image. Base images are made where no registry answers, before the
# tests, which the work would disturb.
test-docker: prerequisites
	@docker compose version >/dev/null 2>&1 || docker-compose version >/dev/null 2>&1 || apt-get install -y --no-install-recommends docker-compose
	@! docker version >/dev/null 2>&1 || sh tests/docker/base-images tests
	$(CARGO) test --locked --test docker -- --nocapture

# With link-time optimisation, which takes its time: PROFILE=bench-quick for less.
image:
	PROFILE=$(or $(PROFILE),release) sh tests/docker/image weir

check: fmt lint docs

fmt:
	$(CARGO) fmt --check

lint: prerequisites
	$(CARGO) clippy --locked --all-targets -- -D warnings

docs: prerequisites
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --locked --no-deps

# Only the crate itself is optimised: its dependencies are those of the tests, which takes minutes less than a profile of its own.
# Not incremental, and one codegen unit: otherwise the compiler cuts the crate in other places after each change, and what is inlined changes
# where nobody has changed anything.
GUARD = CARGO_INCREMENTAL=0 $(CARGO) bench --locked --profile dev --bench guard $(addprefix --config profile.dev.package.weir.,\
	opt-level=2 codegen-units=1 debug=false debug-assertions=false overflow-checks=false)

# `ARGS='route h1'` for scenes with these in their names.
guard: prerequisites
	@sh tools/prerequisites guard
	$(GUARD) -- $(ARGS)

# Scenes that are within the tolerance keep their figures.
guard-update: prerequisites
	@sh tools/prerequisites guard
	$(GUARD) -- --update

bench: prerequisites
	$(CARGO) bench --locked

# `ARGS='--only peak_ewma --seconds 20'` for less or more of it.
bench-balance: prerequisites
	$(CARGO) bench --locked --profile bench-quick --bench quality -- $(ARGS)

# One run beside HAProxy and nginx. `ARGS='--only memory'` for less of it.
bench-l4: prerequisites
	@sh tools/prerequisites bench-l4
	$(CARGO) bench --locked --profile $(PROFILE) --bench l4 -- $(ARGS)

# One run beside nginx and Varnish. `ARGS='--only small'` for less of it.
bench-cache: prerequisites
	@sh tools/prerequisites bench-cache
	$(CARGO) bench --locked --profile $(PROFILE) --bench cache -- $(ARGS)

# One run beside nginx, HAProxy and Envoy. `ARGS=--quick` or `ARGS='small tls --rounds 3'` for less of it.
bench-peers: prerequisites
	@sh tools/prerequisites bench-peers
	@sh tools/envoy
	$(CARGO) bench --locked --profile $(PROFILE) --bench peers -- $(ARGS)

prerequisites:
	@sh tools/prerequisites

test-tools:
	@sh tools/test-tools
	@sh tools/test-redis
