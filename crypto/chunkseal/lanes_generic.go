//go:build !amd64

package chunkseal

func hasLanes() bool { return false }

func blocks16(*[8][lanes]uint32, *[lanes]*byte, int) {
	panic("chunkseal: no assembly on this processor")
}
