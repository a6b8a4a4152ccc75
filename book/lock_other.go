//go:build !unix

package book

import (
	"errors"
	"os"
)

// takeLock refuses: without a lock that ends with the process, two instances
// could write one book.
func takeLock(string) (*os.File, error) {
	return nil, errors.New("this system has no file locks that Guardbook knows how to use")
}
