package chunkseal

import "golang.org/x/sys/cpu"

func hasLanes() bool {
	return cpu.X86.HasAVX512F && cpu.X86.HasAVX512BW
}

// blocks16 adds blocks of 64 bytes of sixteen messages to their hashes, at least one. state has the
// words of the hashes, the same word of all messages together. Its caller has checked the lengths.
//
//go:noescape
func blocks16(state *[8][lanes]uint32, data *[lanes]*byte, blocks int)
