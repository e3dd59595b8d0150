package tenure

import (
	"context"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anchorhold/anchorhold/keybroker/client"
	"github.com/anchorhold/anchorhold/systemd/deadline"
)

// counter counts warnings.
type counter struct {
	slog.Handler
	n atomic.Int32
}

func (c *counter) Enabled(context.Context, slog.Level) bool { return true }

func (c *counter) Handle(context.Context, slog.Record) error { c.n.Add(1); return nil }

// TestDatesAreWarnedOfByTheBrokersClock: the guest's own clock says another year; and the
// dates come nearer while the broker is away.
func TestDatesAreWarnedOfByTheBrokersClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &counter{Handler: slog.DiscardHandler}
		d := dates{watch: deadline.New(slog.New(log))}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { d.watch.Run(ctx, d.now, d.known); close(done) }()
		synctest.Wait()
		broker, now := time.Date(2035, 1, 1, 0, 0, 0, 0, time.UTC), time.Now()
		d.learn(&client.Lease{BrokerTime: broker, TTL: 5 * time.Minute, Expires: now.Add(5 * time.Minute),
			Ends: []client.End{{Kind: "epoch", Name: "the broker's", At: broker.Add(40 * 24 * time.Hour)}}}, now)
		if log.n.Load() != 0 || !d.show()["epoch the broker's"].Equal(broker.Add(40*24*time.Hour)) || len(d.gauges()) != 1 {
			t.Errorf("%d warnings, %v", log.n.Load(), d.show())
		}
		for _, step := range []struct {
			day  int
			want int32
		}{{9, 0}, {11, 1}, {32, 1}, {34, 2}, {38, 2}, {39, 3}, {42, 4}, {60, 4}} {
			time.Sleep(time.Duration(step.day)*24*time.Hour + time.Hour - time.Since(now))
			synctest.Wait()
			if got := log.n.Load(); got != step.want {
				t.Errorf("day %d: %d warnings, want %d", step.day, got, step.want)
			}
		}
		stop()
		<-done
	})
}
