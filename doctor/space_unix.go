//go:build linux || darwin

package doctor

import "golang.org/x/sys/unix"

// freeBytes is what an ordinary user can still write on a directory's file system.
func freeBytes(dir string) (uint64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, err
	}
	return s.Bavail * uint64(s.Bsize), nil
}
