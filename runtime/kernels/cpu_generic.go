//go:build !amd64 && !arm64

package kernels

// sets lists the sets that this processor runs, fastest first.
func sets() []*Set { return []*Set{genericSet()} }
