package registry_test

import (
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/keybroker/registry"
)

// BenchmarkAnnounce verifies a real receipt that is held already.
func BenchmarkAnnounce(b *testing.B) {
	s := open(b, nil)
	a := s.answer(b, s.Agent(b, nil), 1, 1)
	s.announce(b, a)
	for b.Loop() {
		if _, err := s.Announce(b.Context(), a.receipts); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(len(a.receipts[0])), "bytes/receipt")
}

// BenchmarkSubmit verifies and refuses a proof whose record the audit log cannot take:
// everything but the write.
func BenchmarkSubmit(b *testing.B) {
	s := open(b, nil)
	s.register(b, 1)
	a := s.answer(b, s.Agent(b, nil), 1, 1)
	s.announce(b, a)
	s.failAudit(errDisk)
	for b.Loop() {
		if _, err := s.Submit(b.Context(), &a.bundle); err == nil {
			b.Fatal("kept")
		}
	}
}

// BenchmarkDraw announces into and draws from a full queue.
func BenchmarkDraw(b *testing.B) {
	s := open(b, func(c *registry.Config) { cheap(c); c.Waiting = 16 << 10 })
	s.announceCheap(b, 1, 1, 0, 16<<10)
	s.failAudit(errDisk)
	for b.Loop() {
		if _, err := s.Challenge(b.Context(), registry.Spec{All: true, Count: 1, Before: s.now().Add(time.Hour).Time()}); err == nil {
			b.Fatal("kept")
		}
	}
}
