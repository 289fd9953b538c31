# `make help` lists the commands.
#
# Prerequisites: Rust 1.95 and, for a real kube-apiserver, Go 1.26. scripts/deps installs the rest by apt. Tests and demo
# need root, because they make network namespaces.

SHELL := /bin/bash
.DEFAULT_GOAL := help

CARGO ?= cargo
TRIPLE := $(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p')
TARGET_DIR := $(if $(CARGO_TARGET_DIR),$(CARGO_TARGET_DIR),target)
BINARY := $(TARGET_DIR)/$(TRIPLE)/release/ovn-k8s
PREFIX ?= /usr

.PHONY: help demo check test test-kernel test-managers fuzz deny bench bench-takeover binary install deps

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 22

demo: ## two gateway nodes in namespaces with all kinds of traffic and restarts; API=1 starts a real kube-apiserver
	@API=$(API) scripts/demo $(ARGS)

check: ## before a commit: format, crate boundaries, scripts, lints, unit tests
	@scripts/test check

test: ## every check and every test; TEST_PROGRAMS=N sets how many test programs run at once
	@scripts/test

test-kernel: ## matrix, restart and takeover on the kernel datapath, in an emulated machine
	@scripts/test-kernel

test-managers: ## the takeover under systemd-networkd, NetworkManager and ifupdown, with systemd as PID 1
	@scripts/test-managers

fuzz: ## coverage-guided fuzzing, FUZZ_SECONDS=60 for each target; needs a nightly toolchain and `cargo install --locked cargo-fuzz`
	@scripts/fuzz $(ARGS)

deny: ## licences, bans and sources of dependencies; needs `cargo install --locked cargo-deny`
	@$(CARGO) deny --version >/dev/null 2>&1 \
		|| { echo "make deny: cargo-deny is not installed: cargo install --locked cargo-deny" >&2; exit 1; }
	$(CARGO) deny --workspace --all-features check licenses bans sources

bench: binary ## benches of the pure parts, then of the daemon in the lab (root); ARGS="api --runs 50" for a part
	$(CARGO) bench --locked -p benches --bench classify --bench render
	OVN_K8S_BIN=$(abspath $(BINARY)) $(CARGO) bench --locked -p benches --bench helper -- $(ARGS)

bench-takeover: binary ## what a takeover costs the traffic, beside the original sequence (root); ARGS="traffic --runs 5" for a part
	OVN_K8S_BIN=$(abspath $(BINARY)) $(CARGO) bench --locked -p benches --bench takeover -- $(ARGS)

binary: ## the static release binary
	RUSTFLAGS="-C target-feature=+crt-static -C relocation-model=static" \
		$(CARGO) build --locked --release --target $(TRIPLE) -p ovn-k8s
	@echo "$(BINARY): $$(stat -c %s $(BINARY)) bytes"

install: binary ## the binary, its names and the systemd units, below DESTDIR and PREFIX
	install -D -m 755 $(BINARY) $(DESTDIR)$(PREFIX)/bin/ovn-k8s
	for name in gateway-helper status explain util doctor; do ln -sf ovn-k8s $(DESTDIR)$(PREFIX)/bin/ovn-k8s-$$name; done
	install -D -m 644 -t $(DESTDIR)/lib/systemd/system deploy/systemd/*.service

deps: ## what is missing for all of this, by apt
	@scripts/deps all
