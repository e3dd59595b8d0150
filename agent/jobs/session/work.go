package session

import (
	"context"
	"errors"
	"sync"
	"time"
)

// session is the time in which the queue is open: from a lease to the end of its last
// renewal with the same key.
type session[W any] struct {
	// Both are written before the session begins, and only read after.
	queue Opened
	work  W

	run   context.Context // of its work; stop ends it
	stop  context.CancelFunc
	ended chan struct{} // closed once its work has ended
}

// serve runs what is mounted until the session or ctx ends. Jobs under way are given back.
func (s *session[W]) serve(ctx context.Context) error {
	defer close(s.ended)
	defer s.stop()
	defer context.AfterFunc(ctx, s.stop)()
	errs := make(chan error, len(s.queue.runs))
	var running sync.WaitGroup
	for _, f := range s.queue.runs {
		running.Go(func() {
			defer s.stop()
			errs <- f(s.run)
		})
	}
	running.Go(func() { s.expire() })
	<-s.run.Done()
	running.Wait()
	close(errs)
	var err error
	for e := range errs {
		err = errors.Join(err, e)
	}
	return err
}

// expireEvery is how often jobs that are too old are forgotten.
const expireEvery = time.Hour

// expire forgets them until the session ends. A queue that stopped says so to all who use
// it.
func (s *session[W]) expire() {
	t := time.NewTicker(expireEvery)
	defer t.Stop()
	for {
		_, _ = s.queue.Queue.Expire(s.run)
		select {
		case <-s.run.Done():
			return
		case <-t.C:
		}
	}
}

// wipe wipes the keys and waits for nothing.
func (s *session[W]) wipe() {
	s.queue.Key.Wipe()
	if s.queue.Queue != nil {
		s.queue.Queue.Wipe()
	}
}

// close wipes the keys, then closes the queue.
func (s *session[W]) close() error {
	s.wipe()
	if s.queue.Queue == nil {
		return nil
	}
	return s.queue.Queue.Close()
}
