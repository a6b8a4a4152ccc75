# Guardbook. `make run` and `make test` install what they need; the rest expects that they ran.
export GOTOOLCHAIN := go1.27.3
export GOFLAGS := -buildvcs=auto
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo 0.1.0-dev)
LDFLAGS := -s -w -X main.version=$(VERSION)
TOOL := go tool -modfile=tools/go.mod

.PHONY: run test check build dashboard dashboard-check lint race e2e sdks python typescript interop bench needs fuzz clean

run: build
	scripts/run

test: needs lint race dashboard-check e2e sdks interop

# The inner loop: formatting, vet, staticcheck and the tests without the race detector.
check:
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { gofmt -l $$(git ls-files '*.go'); echo "run gofmt -w on these"; exit 1; }
	go vet ./...
	$(TOOL) staticcheck ./...
	go test -short ./...

build: dashboard
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o bin/guardbook ./cmd/guardbook
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o bin/guardbook-verify ./cmd/guardbook-verify

dashboard: dashboard/dist/index.html

dashboard/node_modules/.package-lock.json: dashboard/package-lock.json
	cd dashboard && npm ci --no-audit --no-fund

dashboard/dist/index.html: dashboard/node_modules/.package-lock.json $(shell find dashboard/src dashboard/index.html dashboard/vite.config.* -type f 2>/dev/null)
	cd dashboard && npm run build

dashboard-check: dashboard/node_modules/.package-lock.json
	cd dashboard && npm run check

lint:
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { gofmt -l $$(git ls-files '*.go'); echo "run gofmt -w on these"; exit 1; }
	go vet ./...
	$(TOOL) staticcheck ./...
	$(TOOL) golangci-lint run ./...

# The command line's tests run whole servers, as processes: with the race detector in them each would take ten
# seconds to start its SQL parser. What they are made of is tested with it.
race: dashboard
	CGO_ENABLED=1 go test -race -timeout 20m $$(go list ./... | grep -v '/cmd/guardbook$$')
	go test -timeout 20m ./cmd/guardbook

e2e: build
	scripts/e2e

# The SDKs for other languages, with the real clients and frameworks, oldest and newest.
sdks: python typescript

python: build
	scripts/test-python

typescript: build
	scripts/test-typescript

# The official MCP SDKs against each other through Guardbook.
interop: build
	GUARDBOOK=$(CURDIR)/bin/guardbook scripts/mcp-interop

bench: build
	scripts/bench

needs:
	scripts/needs

fuzz:
	scripts/fuzz

clean:
	rm -rf bin dashboard/dist/assets dashboard/dist/index.html dashboard/node_modules
