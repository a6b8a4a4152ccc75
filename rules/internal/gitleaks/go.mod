module github.com/guardbook/guardbook/rules/internal/gitleaks

go 1.27.0

require (
	github.com/pelletier/go-toml/v2 v2.4.3
	github.com/zricethezav/gitleaks/v8 v8.30.1
)
