// Package policies holds the policies that a fresh installation starts with:
// one for every agent, and one for each agent of the demo.
package policies

import "embed"

// FS holds the starter policies, *.yaml.
//
//go:embed *.yaml
var FS embed.FS
