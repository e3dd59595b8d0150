// Package disk writes files whole or not at all ([Write], [Stream], [Once]), and says how much room
// a service's disk has ([Free]).
//
// Broker, aggregator and the programs that keep an epoch write with it. Services that take files from
// others, the agent (agent/jobs/spool) and the aggregator, keep some of the disk free.
package disk

import (
	"fmt"
	"math"

	"golang.org/x/sys/unix"
)

// Free returns the number of bytes on a directory's disk that an unprivileged user may still
// take.
func Free(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, fmt.Errorf("free space of %s: %w", dir, err)
	}
	free := float64(st.Bavail) * float64(st.Bsize)
	return int64(min(free, math.MaxInt64/2)), nil
}
