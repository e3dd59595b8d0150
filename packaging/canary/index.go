package canary

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"math/bits"
	"slices"
)

// Window is the length of the shortest part of a form that counts as found.
const Window = 16

// wordBytes is the length of a word: each window has one whose place is a multiple of that, wherever it begins.
const wordBytes = 8

// minDistinct is how many different bytes a window must have to be searched for: fewer are in any memory.
const minDistinct = 6

// An Index is what a searcher needs to know of canaries: keyed digests of their windows. It is JSON on its way
// into the machine that is searched, and holds no part of a secret.
type Index struct {
	Key     []byte   `json:"key"`
	Names   []string `json:"names"` // of canaries
	Forms   []string `json:"forms"`
	Entries []byte   `json:"entries"` // entryBytes for each window
	Words   []byte   `json:"words"`   // what the filter of heads makes of each word of a window, in 4 bytes
}

// An entry is 8 bytes of the window's HMAC, the number of its canary and of its form in 2 bytes each, and what the
// searcher's filters make of its two halves in 4 bytes each, all little-endian.
const entryBytes = 8 + 2 + 2 + 4 + 4

// New makes the index of canaries. A canary that has too few windows that nothing else has is refused: it would not
// be found where it is, or be found where it is not.
func New(canaries ...Canary) (*Index, error) {
	x := &Index{Key: make([]byte, 32)}
	if _, err := rand.Read(x.Key); err != nil {
		return nil, err
	}
	return x, x.Add(canaries...)
}

// Add adds canaries that became known later. Those before one that is refused are added.
func (x *Index) Add(canaries ...Canary) error {
	d := newDigester(x.Key)
	for _, c := range canaries {
		if slices.Contains(x.Names, c.Name) {
			return fmt.Errorf("there are two canaries %q", c.Name)
		}
		before, words := len(x.Entries), len(x.Words)
		x.Names = append(x.Names, c.Name)
		windows := 0
		for _, f := range c.Forms {
			windows += x.addForm(d, f)
		}
		if windows < Window {
			x.Names, x.Entries, x.Words = x.Names[:len(x.Names)-1], x.Entries[:before], x.Words[:words]
			return fmt.Errorf("canary %q has %d windows of %d bytes that stand out, want at least %d", c.Name, windows, Window, Window)
		}
	}
	return nil
}

// addForm adds a form of the last canary and returns how many windows of it stand out.
func (x *Index) addForm(d *digester, f Form) (windows int) {
	form := slices.Index(x.Forms, f.Name)
	if form < 0 {
		form = len(x.Forms)
		x.Forms = append(x.Forms, f.Name)
	}
	word := 0 // those before are in the index, or in no window
	for i := 0; i+Window <= len(f.Text); i++ {
		w := f.Text[i : i+Window]
		if !distinct(w) {
			continue
		}
		windows++
		word = max(word, i)
		x.Entries = binary.LittleEndian.AppendUint64(x.Entries, d.sum(w))
		x.Entries = binary.LittleEndian.AppendUint16(x.Entries, uint16(len(x.Names)-1))
		x.Entries = binary.LittleEndian.AppendUint16(x.Entries, uint16(form))
		x.Entries = binary.LittleEndian.AppendUint32(x.Entries, d.head(binary.LittleEndian.Uint64(w)))
		x.Entries = binary.LittleEndian.AppendUint32(x.Entries, d.tail(binary.LittleEndian.Uint64(w[wordBytes:])))
		for ; word < i+wordBytes; word++ { // those before were in the window before
			x.Words = binary.LittleEndian.AppendUint32(x.Words, d.head(binary.LittleEndian.Uint64(f.Text[word:])))
		}
	}
	return windows
}

// distinct says whether a window has enough different bytes, and no word of zeros.
func distinct(w []byte) bool {
	for i := range len(w) - wordBytes + 1 {
		if binary.LittleEndian.Uint64(w[i:]) == 0 {
			return false
		}
	}
	var seen [4]uint64
	for _, b := range w {
		seen[b>>6] |= 1 << (b & 63)
	}
	n := 0
	for _, s := range seen {
		n += bits.OnesCount64(s)
	}
	return n >= minDistinct
}

// filterBits is the size of the number that a filter makes of half a window: of random windows one in a hundred
// passes one filter, if there are forty thousand in the index.
const filterBits = 22

// digester computes what an index knows of a window.
type digester struct {
	mac                  hash.Hash
	headFactor, tailFact uint64
	buf                  [sha256.Size]byte
}

func newDigester(key []byte) *digester {
	d := &digester{mac: hmac.New(sha256.New, key)}
	d.mac.Write([]byte("filters"))
	factors := d.mac.Sum(nil)
	d.headFactor, d.tailFact = binary.LittleEndian.Uint64(factors)|1, binary.LittleEndian.Uint64(factors[8:])|1
	return d
}

func (d *digester) head(half uint64) uint32 { return uint32(half * d.headFactor >> (64 - filterBits)) }
func (d *digester) tail(half uint64) uint32 { return uint32(half * d.tailFact >> (64 - filterBits)) }

func (d *digester) sum(window []byte) uint64 {
	d.mac.Reset()
	d.mac.Write(window)
	return binary.LittleEndian.Uint64(d.mac.Sum(d.buf[:0]))
}
