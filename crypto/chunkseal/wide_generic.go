//go:build !amd64

package chunkseal

const noWide = "chunkseal: no assembly on this processor"

func hasWide() bool { return false }

func expandWide(*wideKey, *[KeySize]byte) { panic(noWide) }

func powersWide(*wideKey) { panic(noWide) }

func openWide(_ *wideKey, _, _ *[16]byte, _, _ *byte, _ int, _ bool) { panic(noWide) }

func hashWide(*wideKey, *[16]byte, *byte, int) { panic(noWide) }

func streamWide(_ *wideKey, _ *[16]byte, _, _ *byte, _ int) { panic(noWide) }
