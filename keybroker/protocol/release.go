package protocol

import (
	"crypto/hmac"
	"crypto/sha512"
	"encoding/binary"
	"slices"

	"golang.org/x/crypto/cryptobyte"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/refusal"
)

const (
	// MaxKeyBytes is the longest key that a release can carry: a TLS key with its chain, say. It is part of the protocol:
	// both ends refuse more, and a sealed key has a length of two bytes on the wire, as in the file of a restart, which
	// 64 KiB would not fit. A higher limit is another version of both.
	MaxKeyBytes = 16 << 10
	// MaxReleasedBytes bounds the keys of one release together. What a frame holds besides are
	// names, HPKE's encapsulations and the lease certificate.
	MaxReleasedBytes = 80 << 10

	maxEncBytes         = 2 << 10
	maxCiphertextBytes  = MaxKeyBytes + 16 // the AEAD's tag
	maxSignedLeaseBytes = 16 << 10         // with the most registers and grants, in a full batch
)

// Item is one sealed key of a release. Its position in the list is its
// sequence number.
type Item struct {
	Resource        string
	Version         uint64
	Enc, Ciphertext []byte
}

// Release is M6, from broker to agent: the keys, sealed to KK, and the lease
// certificate whose Exchange field binds all of it (docs/protocol.md 5.6).
type Release struct {
	// Lease is the signed lease certificate (SignLease).
	Lease []byte
	// Items are the sealed keys, in the order of the request.
	Items []Item
	// AuditIndex and AuditLeaf name the audit record that was durable before
	// this message was sent.
	AuditIndex uint64
	AuditLeaf  [32]byte
}

// Type returns TypeRelease.
func (*Release) Type() Type { return TypeRelease }

// Exchange returns the digest that the lease certificate carries: it covers the
// transcript M1 to M5, every sealed key and the audit leaf, so that the broker's
// one signature on the certificate is the signature on the whole release
// (docs/protocol.md 3.5).
func (m *Release) Exchange(transcript Digest) (Digest, error) {
	if !m.validItems() {
		return Digest{}, errLimit
	}
	var b cryptobyte.Builder
	m.encodeItems(&b)
	items, err := b.Bytes()
	if err != nil {
		return Digest{}, err
	}
	index := binary.BigEndian.AppendUint64(nil, m.AuditIndex)
	return hashJoined(labelRelease, transcript[:], items, index, m.AuditLeaf[:]), nil
}

// KeyInfo returns the HPKE info string of one sealed key (docs/protocol.md 3.6).
// It is computed by both ends and never sent: a key that was sealed for another
// exchange, lease, resource, version, position or expiry does not open.
func KeyInfo(transcript Digest, lease digest.LeaseID, resource string, version uint64, sequence int, leaseEnd Time) []byte {
	var n [8 + 4 + 8]byte
	binary.BigEndian.PutUint64(n[:8], version)
	binary.BigEndian.PutUint32(n[8:12], uint32(sequence))
	binary.BigEndian.PutUint64(n[12:], uint64(leaseEnd))
	sum := hashJoined(labelKeyInfo, transcript[:], lease[:], []byte(resource), n[:8], n[8:12], n[12:])
	return sum[:]
}

func (m *Release) encode(b *cryptobyte.Builder) {
	addBytes24(b, m.Lease)
	b.AddUint24LengthPrefixed(m.encodeItems)
	b.AddUint64(m.AuditIndex)
	b.AddBytes(m.AuditLeaf[:])
}

func (m *Release) encodeItems(b *cryptobyte.Builder) {
	for i := range m.Items {
		it := &m.Items[i]
		addString8(b, it.Resource)
		b.AddUint64(it.Version)
		addBytes16(b, it.Enc)
		addBytes16(b, it.Ciphertext)
	}
}

func (m *Release) decode(s *cryptobyte.String) bool {
	*m = Release{}
	var items cryptobyte.String
	if !readBytes24(s, &m.Lease) || !s.ReadUint24LengthPrefixed(&items) ||
		!s.ReadUint64(&m.AuditIndex) || !s.CopyBytes(m.AuditLeaf[:]) {
		return false
	}
	for !items.Empty() {
		var it Item
		if len(m.Items) == MaxResources || !readString8(&items, &it.Resource) || !items.ReadUint64(&it.Version) ||
			!readBytes16(&items, &it.Enc) || !readBytes16(&items, &it.Ciphertext) {
			return false
		}
		m.Items = append(m.Items, it)
	}
	return true
}

func (m *Release) valid() bool {
	return len(m.Lease) > 0 && len(m.Lease) <= maxSignedLeaseBytes && m.validItems()
}

func (m *Release) validItems() bool {
	return len(m.Items) > 0 && len(m.Items) <= MaxResources &&
		!slices.ContainsFunc(m.Items, func(it Item) bool { return !it.valid() })
}

func (it *Item) valid() bool {
	return ValidResource(it.Resource) && it.Version > 0 &&
		len(it.Enc) > 0 && len(it.Enc) <= maxEncBytes &&
		len(it.Ciphertext) > 0 && len(it.Ciphertext) <= maxCiphertextBytes
}

// ReceiptKey is the exporter context of RFC 9180 under which each sealed key gives
// its part of the key that authenticates M7 (docs/protocol.md 5.7).
const ReceiptKey = contextReceipt

// Receipt is M7, from agent to broker: who sends it opened every key of this very M6
// (docs/protocol.md 5.7).
type Receipt struct {
	// Release is H(M6).
	Release Digest
	// Proof is HMAC-SHA-512 over exporter and H(M6).
	Proof Digest
}

// Type returns TypeReceipt.
func (*Receipt) Type() Type { return TypeReceipt }

// Prove fills Proof. key is what the items of M6 export under ReceiptKey, in their order.
func (m *Receipt) Prove(key []byte, ekm [48]byte) { m.Proof = m.proof(key, ekm) }

func (m *Receipt) proof(key []byte, ekm [48]byte) (d Digest) {
	h := hmac.New(sha512.New, key)
	h.Write(Join(contextReceipt, ekm[:], m.Release[:]))
	h.Sum(d[:0])
	return d
}

// Verify checks the receipt against the release that was sent and the key of Prove,
// in constant time.
func (m *Receipt) Verify(key []byte, ekm [48]byte, release Digest) error {
	if m.Release != release {
		return refusal.New(ReasonReceiptInvalid, "receipt is for another release")
	}
	if want := m.proof(key, ekm); !hmac.Equal(want[:], m.Proof[:]) {
		return refusal.New(ReasonReceiptInvalid, "not by who opened the keys")
	}
	return nil
}

func (m *Receipt) encode(b *cryptobyte.Builder) {
	b.AddBytes(m.Release[:])
	b.AddBytes(m.Proof[:])
}

func (m *Receipt) decode(s *cryptobyte.String) bool {
	*m = Receipt{}
	return s.CopyBytes(m.Release[:]) && s.CopyBytes(m.Proof[:])
}

func (*Receipt) valid() bool { return true }
