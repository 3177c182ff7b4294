# Tocsin. `make help` lists the targets. Go alone is needed; the rest is built from modules.
.DEFAULT_GOAL := help
GO      ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X github.com/tocsin-io/tocsin/internal/app.Version=$(VERSION)
DATA    ?= ../shared
FUZZTIME ?= 2s

.PHONY: help build demo test e2e check bench eval fuzz vuln

help: ## list the targets
	@grep -E '^[a-z0-9]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 10

build: ## build bin/tocsin
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/tocsin ./cmd/tocsin

demo: build ## replay a recorded three-cluster outage through the real pipeline; needs no cluster
	@./bin/tocsin demo

test: ## all tests without a cluster, with the race detector
	$(GO) test -race -timeout 20m ./...

e2e: ## the whole loop on real API servers (built from modules once, then cached)
	$(GO) test -tags e2e -count=1 -p 1 -timeout 40m -v ./e2e/...

check: ## format, vet, staticcheck, imports, short fuzzing, vulnerabilities
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { gofmt -l $$(git ls-files '*.go'); echo 'run gofmt -w on these'; exit 1; }
	$(GO) vet ./...
	$(GO) vet -tags e2e ./e2e/...
	$(GO) tool staticcheck ./...
	$(GO) test ./internal/importtest
	$(MAKE) --no-print-directory fuzz vuln

fuzz: ## every fuzz target for FUZZTIME each (default 2s)
	@grep -rlE '^func Fuzz' --include='*_test.go' . | xargs -n1 dirname | sort -u | while read -r d; do \
	  grep -hoE '^func Fuzz[A-Za-z0-9_]+' $$d/*_test.go | sed 's/^func //' | while read -r f; do \
	    echo "fuzz $$d $$f"; $(GO) test $$d -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) -parallel 2 > /tmp/fuzz.$$$$ 2>&1 || { cat /tmp/fuzz.$$$$; rm -f /tmp/fuzz.$$$$; exit 1; }; rm -f /tmp/fuzz.$$$$; \
	  done || exit 1; done

vuln: ## known vulnerabilities in what we call; says so when the database cannot be reached
	@out=$$($(GO) tool govulncheck ./... 2>&1); code=$$?; echo "$$out" | tail -20; \
	if [ $$code -ne 0 ] && echo "$$out" | grep -qE 'dial tcp|no such host|connection refused|proxyconnect|i/o timeout|404|403|Forbidden|fetching vulnerabilities'; then \
	  echo 'vuln: the vulnerability database cannot be reached from here; NOT CHECKED'; else exit $$code; fi

bench: ## the budgets, each beside what it is compared with
	$(GO) test -run '^$$' -bench . -benchmem -timeout 40m ./internal/bus ./correlator ./causes/... ./cluster ./runbooks/... ./incident

eval: ## score causes and runbooks on labelled data in DATA (default ../shared); says so when it is absent
	$(GO) run ./causes/eval -data $(DATA)/snapshots
	$(GO) run ./runbooks/eval -bench $(DATA)/runbook-bench
