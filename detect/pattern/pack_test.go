package pattern

import (
	"testing"

	"github.com/guardbook/guardbook/rules"
)

func TestEveryShippedRuleFindsItsTrueExamplesAndNoFalseOne(t *testing.T) {
	pack, err := Load(rules.FS)
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range pack.Check() {
		t.Error(err)
	}
}
