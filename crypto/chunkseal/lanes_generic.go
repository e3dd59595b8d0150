//go:build !amd64

package chunkseal

func hasLanes() bool { return false }

func blocks8(*[8][lanes]uint32, *[lanes]*byte, int) {
	panic("chunkseal: no assembly on this processor")
}
