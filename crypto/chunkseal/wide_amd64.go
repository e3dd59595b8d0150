package chunkseal

import "golang.org/x/sys/cpu"

func hasWide() bool {
	x := &cpu.X86
	return x.HasAVX512F && x.HasAVX512BW && x.HasAVX512VL && x.HasAVX512VAES && x.HasAVX512VPCLMULQDQ && x.HasAES && x.HasBMI2
}

// The callers of all of these have checked the lengths.

//go:noescape
func expandWide(k *wideKey, key *[KeySize]byte)

//go:noescape
func powersWide(k *wideKey)

//go:noescape
func openWide(k *wideKey, hash, counter *[16]byte, dst, src *byte, groups int, past bool)

//go:noescape
func hashWide(k *wideKey, hash *[16]byte, src *byte, n int)

//go:noescape
func streamWide(k *wideKey, counter *[16]byte, dst, src *byte, n int)
