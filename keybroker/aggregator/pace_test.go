package aggregator_test

import (
	"bytes"
	"io"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/he/rlwe"
	"github.com/anchorhold/anchorhold/keybroker/aggregator"
	"github.com/anchorhold/anchorhold/keybroker/federationtest"
)

// TestTricklesDoNotHoldAllPlaces: agent keys of one guest that hold every place give one up
// to somebody from elsewhere, in the middle of a read, and go on later.
func TestTricklesDoNotHoldAllPlaces(t *testing.T) {
	s := open(t, federationtest.New(t), t.TempDir(), func(c *aggregator.Config) { c.Uploads = 2 })
	r, signed, _ := s.Round(t, length, nil)
	if _, err := s.agg.AddRound(signed); err != nil {
		t.Fatal(err)
	}
	ended, stop := make(chan error, 2), make(chan struct{})
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for i := range 2 {
		a := s.Agent(t, nil)
		m, b := a.Contribute(t, r, signed, vector(length, i))
		go func() {
			_, err := closer(t, s.as(a)).Send(t.Context(), r.ID, m, nil, &stalled{b[0], stop}, rlwe.BlockBytes, nil)
			ended <- err
		}()
		for s.agg.Sending() <= i {
			<-tick.C
		}
	}
	m, b := s.Agent(t, nil).Contribute(t, r, signed, vector(length, 3))
	u, err := s.agg.Begin(r.ID, m)
	if err != nil {
		t.Fatal(err)
	}
	if u, err = s.agg.ReceiveFrom("elsewhere", r.ID, u.Contribution, 0, bytes.NewReader(b)); err != nil || !u.Complete {
		t.Errorf("kept out: %+v, %v", u, err)
	}
	wantReasonOf(t, "the upload that gave way", <-ended, aggregator.ReasonBusy)
	close(stop)
	<-ended
}

// stalled brings one byte, and nothing more until it is stopped.
type stalled struct {
	first byte
	stop  chan struct{}
}

// ReadAt waits, but for the first byte.
func (s *stalled) ReadAt(b []byte, at int64) (int, error) {
	if at > 0 {
		<-s.stop
		return 0, io.ErrUnexpectedEOF
	}
	b[0] = s.first
	return 1, nil
}
