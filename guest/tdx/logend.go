package tdx

import "encoding/binary"

// Digests of the algorithms that a log may have (TCG Algorithm Registry, 6.10), in bytes.
func digestBytes(alg uint16) int {
	switch alg {
	case 0x0004: // SHA-1
		return 20
	case 0x000b, 0x0012: // SHA-256, SM3-256
		return 32
	case 0x000c:
		return 48
	case 0x000d:
		return 64
	}
	return 0
}

// maxDigests bounds the digests of one event.
const maxDigests = 8

// written is the part of the firmware's area that has events in it; the rest is erased. What is
// no log of the format (TCG PC Client Platform Firmware Profile, 10.2) is returned whole: the
// broker says what is wrong with it. An event's own data may end with bytes that look erased, so
// they are found from the beginning.
func written(log []byte) []byte {
	le := binary.LittleEndian
	if len(log) < 32 {
		return log
	}
	at := 32 + uint64(le.Uint32(log[28:])) // the header is an event of the first format
	for at < uint64(len(log)) {
		rest := log[at:]
		if n := min(len(rest), 8); uniform(rest[:n], 0) || uniform(rest[:min(n, 4)], 0xff) {
			if !uniform(rest, rest[0]) {
				return log
			}
			return log[:at]
		}
		size, ok := eventBytes(rest)
		if !ok {
			return log
		}
		at += size
	}
	return log
}

// eventBytes is the size of the event (TCG_PCR_EVENT2) at the beginning of b.
func eventBytes(b []byte) (uint64, bool) {
	le := binary.LittleEndian
	if len(b) < 12 {
		return 0, false
	}
	count, at := le.Uint32(b[8:]), 12
	if count > maxDigests {
		return 0, false
	}
	for range count {
		if len(b)-at < 2 {
			return 0, false
		}
		n := digestBytes(le.Uint16(b[at:]))
		if at += 2 + n; n == 0 || at > len(b) {
			return 0, false
		}
	}
	if len(b)-at < 4 {
		return 0, false
	}
	return uint64(at) + 4 + uint64(le.Uint32(b[at:])), true
}

func uniform(b []byte, v byte) bool {
	for _, c := range b {
		if c != v {
			return false
		}
	}
	return true
}
