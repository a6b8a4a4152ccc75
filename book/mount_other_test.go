//go:build !linux

package book_test

import (
	"errors"
	"testing"
)

func mountSmall(*testing.T, string) error { return errors.New("only on Linux") }
