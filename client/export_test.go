package client

import "errors"

// Die ends a guard as the end of its process would: nothing is told, its lock is let go.
func Die(g *Guard) {
	r := g.spool.r
	r.stop()
	<-r.done
	if s := r.spool; s != nil {
		_ = errors.Join(s.file.Close(), s.lock.Unlock()) // as the kernel does
	}
	r.spool = nil
}
