package longwork

import (
	"context"
	"errors"
	"sync"

	"github.com/anchorhold/anchorhold/agent/fed"
	"github.com/anchorhold/anchorhold/agent/jobs"
	"github.com/anchorhold/anchorhold/agent/prove"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
)

// session is the time in which the queue is open: from a lease to the end of its last
// renewal with the same key.
type session struct {
	key        *keybuf.Buffer
	queue      *jobs.Queue
	federation *fed.Service   // nil without aggregators
	proofs     *prove.Service // nil without proving keys

	run   context.Context // of its work; stop ends it
	stop  context.CancelFunc
	ended chan struct{} // closed once its work has ended
}

// work runs the services until the session or ctx ends. Jobs under way are given back.
func (s *session) work(ctx context.Context) error {
	defer close(s.ended)
	defer s.stop()
	defer context.AfterFunc(ctx, s.stop)()
	errs := make(chan error, 2)
	var running sync.WaitGroup
	begin := func(f func(context.Context) error) {
		running.Go(func() {
			defer s.stop()
			errs <- f(s.run)
		})
	}
	running.Go(func() { s.expire() })
	if s.federation != nil {
		begin(s.federation.Run)
	}
	if s.proofs != nil {
		begin(s.proofs.Run)
	}
	<-s.run.Done()
	running.Wait()
	close(errs)
	var err error
	for e := range errs {
		err = errors.Join(err, e)
	}
	return err
}

// wipe wipes the keys and waits for nothing.
func (s *session) wipe() {
	s.key.Wipe()
	if s.queue != nil {
		s.queue.Wipe()
	}
}

// close wipes the keys, then closes the queue.
func (s *session) close() error {
	s.wipe()
	if s.queue == nil {
		return nil
	}
	return s.queue.Close()
}
