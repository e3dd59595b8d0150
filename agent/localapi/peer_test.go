package localapi_test

import (
	"os"
	"testing"
	"time"
)

func gid() uint32 { return uint32(os.Getgid()) }

// await polls for a condition that another goroutine brings about.
func await(t testing.TB, is func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	deadline := time.After(10 * time.Second)
	for !is() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("the condition did not come about in ten seconds")
		}
	}
}
