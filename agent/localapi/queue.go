package localapi

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"sync"
	"time"

	"github.com/anchorhold/anchorhold/agent/localapi/problem"
)

// queue lets a number of requests run and a number wait, first come first
// served. What comes beyond is refused with a guess at when to come again.
type queue struct {
	slots   chan struct{}
	mu      sync.Mutex
	waiting int
	limit   int
	average float64 // seconds of a request, moving
}

func newQueue(concurrent, waiting int) *queue {
	return &queue{slots: make(chan struct{}, concurrent), limit: waiting, average: 1}
}

// enter waits for a slot and returns what gives it back.
func (q *queue) enter(ctx context.Context) (leave func(), err error) {
	select {
	case q.slots <- struct{}{}:
		return q.leave(time.Now()), nil
	default:
	}
	q.mu.Lock()
	if q.waiting >= q.limit {
		defer q.mu.Unlock()
		wait := q.average * float64(q.waiting+1) / float64(cap(q.slots))
		seconds := int(math.Ceil(min(max(wait, 1), 60)))
		return nil, &problem.Error{Status: http.StatusTooManyRequests, RetryAfter: seconds, Type: "rate_limit_error", Code: string(ReasonQueue),
			Message: fmt.Sprintf("too many requests are waiting; try again in %d seconds", seconds)}
	}
	q.waiting++
	q.mu.Unlock()
	defer func() {
		q.mu.Lock()
		q.waiting--
		q.mu.Unlock()
	}()
	select {
	case q.slots <- struct{}{}:
		return q.leave(time.Now()), nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (q *queue) leave(began time.Time) func() {
	return func() {
		took := time.Since(began).Seconds()
		q.mu.Lock()
		q.average += (took - q.average) / 8
		q.mu.Unlock()
		<-q.slots
	}
}

// load returns how many requests run and wait.
func (q *queue) load() (running, waiting int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.slots), q.waiting
}
