//go:build !unix

package doctor

import "errors"

func lockHeld(string) (bool, error) { return false, errors.ErrUnsupported }
