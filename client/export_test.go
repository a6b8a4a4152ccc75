package client

import "errors"

// Die ends a guard as the end of its process would: nothing is told, its lock is let go.
func Die(g *Guard) {
	g.rec.stop()
	<-g.rec.done
	if s := g.rec.spool; s != nil {
		_ = errors.Join(s.file.Close(), s.lock.Unlock()) // as the kernel does
	}
	g.rec.spool = nil
}
