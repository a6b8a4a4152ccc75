// Command page writes docs/coverage.md from the matrix: go run ./coverage/page FILE,
// or go generate ./coverage.
package main

import (
	"fmt"
	"os"

	"github.com/guardbook/guardbook/coverage"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "page:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("give the file to write: go run ./coverage/page docs/coverage.md")
	}
	m, err := coverage.Load()
	if err != nil {
		return err
	}
	return os.WriteFile(args[0], []byte(m.Page()), 0o644)
}
