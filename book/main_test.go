package book_test

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

// TestMain lets the test binary stand in for a process that is killed or whose
// disk is full (see children): a test starts it again with childVar set.
func TestMain(m *testing.M) {
	if name := os.Getenv(childVar); name != "" {
		os.Exit(children[name]())
	}
	goleak.VerifyTestMain(m)
}

const childVar = "GUARDBOOK_TEST_CHILD"

var children = map[string]func() int{
	"append": appendUntilKilled,
	"full":   fillTheDisk,
}
