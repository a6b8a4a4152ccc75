package main

import (
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// clock says what "time" in the tables is.
const clock = "CPU time of the scanning thread"

// cpuTime is the processor time that the calling thread has used, so that other
// work on the machine does not count. The first call ties the goroutine to its
// thread.
func cpuTime() time.Duration {
	runtime.LockOSThread()
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
		return time.Duration(time.Now().UnixNano())
	}
	return time.Duration(ts.Nano())
}
