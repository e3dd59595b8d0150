package collateral

import (
	"bytes"
	"time"

	"golang.org/x/crypto/cryptobyte"

	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// Limits of one item.
const (
	MaxDocumentBytes = 1 << 20
	MaxItemBytes     = 4 << 20
	maxDocuments     = 7
)

// itemLabel begins the encoding of an item.
const itemLabel = "anchorhold/collateral/item/1"

// Item is what is kept under a key.
type Item struct {
	Key Key
	// Fetched is when the source served it last, in whole seconds.
	Fetched time.Time
	// Documents are as many as the kind has: of a VCEK the certificate (DER); of a chain ASK or
	// ASVK, then ARK (DER); of a revocation list the list (DER); of Intel's those of
	// [TDXDocuments], in the order of its fields.
	Documents [][]byte
}

// documents is how many a kind has.
func documents(k Kind) int {
	switch k {
	case KindVCEK, KindAMDCRL:
		return 1
	case KindAMDChain:
		return 2
	case KindTDX:
		return maxDocuments
	}
	return 0
}

func (it Item) check() error {
	if n := documents(it.Key.kind); n == 0 || len(it.Documents) != n {
		return refusal.New(ReasonMalformed, "%d documents for %q", len(it.Documents), it.Key)
	}
	for i, d := range it.Documents {
		if len(d) == 0 || len(d) > MaxDocumentBytes {
			return refusal.New(ReasonMalformed, "document %d of %q has %d bytes", i, it.Key, len(d))
		}
	}
	if s := it.Fetched.Unix(); s <= 0 {
		return refusal.New(ReasonMalformed, "%q was fetched at no time", it.Key)
	}
	return nil
}

// Marshal returns the canonical encoding:
//
//	label (1) | key (1) | time fetched, u64 seconds since 1970 | count, u8 | each document (3)
//
// where (n) is an n-byte big-endian length before the field.
func (it Item) Marshal() ([]byte, error) {
	if err := it.check(); err != nil {
		return nil, err
	}
	var b cryptobyte.Builder
	addBytes := func(data []byte) func(*cryptobyte.Builder) { return func(b *cryptobyte.Builder) { b.AddBytes(data) } }
	b.AddUint8LengthPrefixed(addBytes([]byte(itemLabel)))
	b.AddUint8LengthPrefixed(addBytes([]byte(it.Key.String())))
	b.AddUint64(uint64(it.Fetched.Unix()))
	b.AddUint8(uint8(len(it.Documents)))
	for _, d := range it.Documents {
		b.AddUint24LengthPrefixed(addBytes(d))
	}
	out, err := b.Bytes()
	if err != nil || len(out) > MaxItemBytes {
		return nil, refusal.New(ReasonTooLarge, "%q has more than %d bytes", it.Key, MaxItemBytes)
	}
	return out, nil
}

// ParseItem reads the canonical encoding and nothing else. It says nothing about who made the
// documents.
func ParseItem(data []byte) (Item, error) {
	malformed := func(what string) (Item, error) { return Item{}, refusal.New(ReasonMalformed, "item: %s", what) }
	if len(data) > MaxItemBytes {
		return Item{}, refusal.New(ReasonTooLarge, "an item has at most %d bytes, got %d", MaxItemBytes, len(data))
	}
	s := cryptobyte.String(data)
	var label, name, doc cryptobyte.String
	var fetched uint64
	var count uint8
	if !s.ReadUint8LengthPrefixed(&label) || string(label) != itemLabel {
		return malformed("not of this version")
	}
	if !s.ReadUint8LengthPrefixed(&name) || !s.ReadUint64(&fetched) || !s.ReadUint8(&count) || fetched > 1<<40 {
		return malformed("cut short")
	}
	key, err := ParseKey(string(name))
	if err != nil {
		return Item{}, err
	}
	it := Item{Key: key, Fetched: time.Unix(int64(fetched), 0).UTC()}
	if int(count) > maxDocuments {
		return malformed("too many documents")
	}
	for range count {
		if !s.ReadUint24LengthPrefixed(&doc) {
			return malformed("a document is cut short")
		}
		it.Documents = append(it.Documents, bytes.Clone(doc))
	}
	if !s.Empty() {
		return malformed("trailing bytes")
	}
	return it, it.check()
}

// TDXDocuments are what a TDX quote is judged with, as Intel serves it: TCB information and QE
// identity as JSON, revocation lists as DER, chains as PEM with the root last.
type TDXDocuments struct {
	TCBInfo         []byte
	TCBInfoChain    []byte
	QEIdentity      []byte
	QEIdentityChain []byte
	PCKCRL          []byte
	PCKCRLChain     []byte
	RootCRL         []byte
}

// TDXCheck verifies Intel's documents for a platform: every signature up to the pinned root, every
// window at the given time, and that they are for this platform. nil is no check and refuses.
type TDXCheck func(p Platform, docs TDXDocuments, now time.Time) error

// Documents are the fields in their order, as an [Item] keeps them.
func (d TDXDocuments) Documents() [][]byte {
	return [][]byte{d.TCBInfo, d.TCBInfoChain, d.QEIdentity, d.QEIdentityChain, d.PCKCRL, d.PCKCRLChain, d.RootCRL}
}

// TDX are the documents of an item of KindTDX; the zero value for other kinds.
func (it Item) TDX() TDXDocuments {
	if it.Key.kind != KindTDX || len(it.Documents) != maxDocuments {
		return TDXDocuments{}
	}
	d := it.Documents
	return TDXDocuments{TCBInfo: d[0], TCBInfoChain: d[1], QEIdentity: d[2], QEIdentityChain: d[3], PCKCRL: d[4], PCKCRLChain: d[5], RootCRL: d[6]}
}
