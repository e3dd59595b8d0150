package chunkseal

import (
	"crypto/sha256"
	"encoding/binary"
	"math"
	"runtime"
	"sync"
	"unsafe"
)

// lanes is how many messages the assembly hashes at once.
const lanes = 16

// worthwhile is how many messages, hashed one after another, take as long as sixteen of their length
// in the lanes (BenchmarkDigests, against SHA-NI).
const worthwhile = 7

// sum256 computes the SHA-256 digests of up to sixteen messages. One chain of SHA-256 waits for
// itself, round after round, with most of the processor idle; where AVX-512 is, sixteen together
// take as long as seven. The digests are the standard library's.
func sum256(digests [][32]byte, messages [][]byte) {
	total, longest := 0, 0
	for _, m := range messages {
		total, longest = total+len(m), max(longest, len(m))
	}
	if len(messages) < worthwhile || total < worthwhile*longest || len(messages) > lanes || !lanesAgree() {
		for i, m := range messages {
			digests[i] = sha256.Sum256(m)
		}
		return
	}
	sumLanes(digests, messages)
}

// lanesAgree says whether the assembly can run here and computes what the standard library does,
// for messages that end at each place of a block. A processor, an emulator or a hypervisor on
// which it does not costs speed, and no chunk. It is asked first when chunks are: programs that open no
// file do not pay for it.
var lanesAgree = sync.OnceValue(func() bool { return hasLanes() && compareLanes() })

func compareLanes() bool {
	var text [lanes*(31+17) + 64]byte
	for i := range text {
		text[i] = byte(i*i + i>>3)
	}
	var messages [lanes][]byte
	var digests [lanes][32]byte
	for n := range 64 {
		for i := range messages {
			messages[i] = text[i*31:][:n+i*17]
		}
		sumLanes(digests[:], messages[:])
		for i, m := range messages {
			if digests[i] != sha256.Sum256(m) {
				return false
			}
		}
	}
	return true
}

// initial is the initial hash value (FIPS 180-4, section 5.3.3).
var initial = [8]uint32{0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19}

// lane is what is left of one message: whole blocks of it, then its padded end.
type lane struct {
	at        *byte
	n, ending int // blocks there, and of the end behind them
}

// sumLanes computes up to eight digests in the lanes. Lanes without a message, or whose message
// has ended, hash another one's bytes, and nobody asks for the result.
func sumLanes(digests [][32]byte, messages [][]byte) {
	var state [8][lanes]uint32
	for w, v := range initial {
		for l := range lanes {
			state[w][l] = v
		}
	}
	var ends [lanes][128]byte
	var work [lanes]lane
	for l, m := range messages {
		work[l] = newLane(m, &ends[l])
	}
	for {
		n, some := shortest(work[:len(messages)])
		if n == 0 {
			break
		}
		var data [lanes]*byte
		for l := range data {
			data[l] = some
			if work[l].n > 0 {
				data[l] = work[l].at
			}
		}
		blocks16(&state, &data, n)
		for l := range messages {
			var ended bool
			if work[l], ended = work[l].advance(n, &ends[l]); ended {
				for w := range state {
					binary.BigEndian.PutUint32(digests[l][4*w:], state[w][l])
				}
			}
		}
	}
	runtime.KeepAlive(messages)
}

// newLane splits a message into whole blocks and its end, padded (section 5.1.1).
func newLane(m []byte, end *[128]byte) lane {
	whole := len(m) / 64
	used := copy(end[:], m[whole*64:])
	end[used] = 0x80
	ending := (used + 1 + 8 + 63) / 64
	binary.BigEndian.PutUint64(end[ending*64-8:], uint64(len(m))*8)
	if whole == 0 {
		return lane{&end[0], ending, 0}
	}
	return lane{unsafe.SliceData(m), whole, ending}
}

// shortest returns how many blocks all unfinished lanes have before them, 0 if there is none, and
// the place of so many blocks.
func shortest(work []lane) (n int, some *byte) {
	n = math.MaxInt
	for l := range work {
		if k := &work[l]; k.n > 0 && k.n < n {
			n, some = k.n, k.at
		}
	}
	if some == nil {
		return 0, nil
	}
	return n, some
}

// advance is the lane after n blocks of every lane were hashed, and says whether its message ended
// there. It changes nothing in place: a pointer stored through another would cost the stack.
func (k lane) advance(n int, end *[128]byte) (after lane, ended bool) {
	switch {
	case k.n == 0:
		return k, false
	case k.n > n:
		return lane{(*byte)(unsafe.Add(unsafe.Pointer(k.at), n*64)), k.n - n, k.ending}, false
	}
	return lane{&end[0], k.ending, 0}, k.ending == 0
}
