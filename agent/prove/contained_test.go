package prove

import (
	"log/slog"
	"sync/atomic"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/keybroker/receipt"
)

// TestAPanicIsOneAnswersFailure: the next answer is kept.
func TestAPanicIsOneAnswersFailure(t *testing.T) {
	w := newWorld(t)
	var log lines
	var panicked atomic.Bool
	g := w.start(t, OnDemand, func(c *Config) {
		whose := c.Agent
		c.Logger = slog.New(slog.NewTextHandler(&log, nil))
		c.Agent = func(r receipt.Receipt) (digest.Digest, error) {
			if panicked.CompareAndSwap(false, true) {
				panic("nobody foresaw this")
			}
			return whose(r)
		}
	})
	g.Take(5, w.classify(t))
	poll(t, func() bool { return log.has("answer is not kept for proving") })
	g.answer(t, 5)
	g.stop()
}
