package prove

import (
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/agent/worker"
)

// A worker that has the weights of a model lives no longer than a lease may last, however
// long other workers may take.
func TestWorkerWithWeightsIsBoundedByTheLongestLease(t *testing.T) {
	for configured, want := range map[time.Duration]time.Duration{time.Hour: 15 * time.Minute, time.Minute: time.Minute, 0: 0} {
		s := &Service{cfg: Config{Limits: worker.Limits{Memory: 1 << 30, Time: configured}}}
		if got := s.bounds(1 << 20); got.Time != want || got.Memory != 1<<20 {
			t.Errorf("configured %v: %v and %d bytes, want %v", configured, got.Time, got.Memory, want)
		}
	}
}
