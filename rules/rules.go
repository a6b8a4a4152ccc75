// Package rules holds the rule packs that ship with Guardbook, one YAML file a
// subject. Their language is that of package detect/pattern.
package rules

import "embed"

// FS holds the packs.
//
//go:embed *.yaml
var FS embed.FS

//go:generate sh -c "cd internal/gitleaks && go run . > ../../secrets.yaml.new && mv ../../secrets.yaml.new ../../secrets.yaml"
