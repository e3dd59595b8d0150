package workapi_test

import (
	"io"
	"net"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anchorhold/anchorhold/agent/localapi"
)

// overPipe is a response over a connection whose reads have deadlines.
type overPipe struct {
	*httptest.ResponseRecorder
	conn net.Conn
}

func (w overPipe) SetReadDeadline(t time.Time) error { return w.conn.SetReadDeadline(t) }

// stopping begins an update of user 7 whose body stops after what was sent; end closes it.
func (b *bench) stopping(media, sent string) (w overPipe, end func()) {
	b.t.Helper()
	near, far := net.Pipe()
	w = overPipe{httptest.NewRecorder(), near}
	q := httptest.NewRequestWithContext(b.t.Context(), "POST", path+"/updates?model=tiny", near)
	q.Header.Set("uid", "7")
	q.Header.Set("Content-Type", media)
	var served sync.WaitGroup
	served.Go(func() { b.mux.ServeHTTP(w, q) })
	end = func() { far.Close(); served.Wait() }
	b.t.Cleanup(end)
	if _, err := io.WriteString(far, sent); err != nil {
		b.t.Fatal(err)
	}
	synctest.Wait()
	return w, end
}

// TestAnUpdateThatStandsStillGivesWay: its first part was read with a deadline of its own, so
// that it held its memory for half a minute, however much others needed it.
func TestAnUpdateThatStandsStillGivesWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		budget := b.service.Classifiers.Intake.Budget
		media, whole := form(t, asked, vector)
		w, end := b.stopping(media, whole[:strings.Index(whole, `"data"`)])
		if budget.Used() < 8<<20 {
			t.Fatalf("%d bytes are held for a body of any length", budget.Used())
		}
		begun := time.Now()
		h, err := budget.Reserve(t.Context(), 8, 32<<20)
		if took := time.Since(begun); err != nil || took > localapi.Grace+localapi.Grace/2 {
			t.Errorf("another waited %s: %v", took, err)
		}
		h.Release()
		end()
		if !strings.Contains(w.Body.String(), string(localapi.ReasonSlow)) {
			t.Error(w.Body)
		}
	})
}

// TestAnUpdateHoldsNoAnswersWhileItsVectorComes: a vector may come for hours.
func TestAnUpdateHoldsNoAnswersWhileItsVectorComes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		media, whole := form(t, asked, vector)
		w, end := b.stopping(media, whole[:strings.Index(whole, vector[2])+4])
		if held := b.service.Classifiers.Intake.Budget.Used(); len(b.prover.taken) != 2 || held > 2*localapi.Overhead {
			t.Errorf("%d answers were taken, %d bytes are held", len(b.prover.taken), held)
		}
		end()
		if held := b.service.Classifiers.Intake.Budget.Used(); held != 0 {
			t.Errorf("%d bytes are left: %s", held, w.Body)
		}
	})
}
