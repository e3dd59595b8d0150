package digest

import "encoding/hex"

// ID is a random number that names one thing of kind K; its text is 32 lower-case
// hexadecimal digits. Ids of two kinds are two types.
type ID[K any] [16]byte

// The kinds of things that have an id.
type (
	// Round is the kind of federated rounds.
	Round struct{}
	// Receipt is the kind of receipts.
	Receipt struct{}
	// Lease is the kind of leases.
	Lease struct{}
	// Exchange is the kind of exchanges with the broker, of their requests and refusals.
	Exchange struct{}
)

type (
	// RoundID names a federated round.
	RoundID = ID[Round]
	// ReceiptID names a receipt.
	ReceiptID = ID[Receipt]
	// LeaseID names a lease.
	LeaseID = ID[Lease]
	// ExchangeID names an exchange with the broker, a request or a refusal.
	ExchangeID = ID[Exchange]
)

// ParseID reads what String writes, and nothing else.
func ParseID[K any](s string) (id ID[K], err error) { return id, id.UnmarshalText([]byte(s)) }

// String is the id in hexadecimal.
func (id ID[K]) String() string { return hex.EncodeToString(id[:]) }

// MarshalText writes the id in hexadecimal.
func (id ID[K]) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, id[:]), nil }

// UnmarshalText reads what MarshalText writes, and nothing else.
func (id *ID[K]) UnmarshalText(text []byte) error { return Decode(id[:], text) }
