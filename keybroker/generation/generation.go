// Package generation has the statements by which a guest and its broker agree on which state of an encrypted
// volume is the current one (docs/protocol.md 17).
//
// A host that owns the disk can put back an old copy of a volume, which is genuine in every other respect. So
// each opening makes a generation: a number, and a random mark that lies inside the volume and that the broker
// remembers. A guest says what its volume holds, in an [Opening]; the broker answers with what is current, in
// a [Current]. The statements verify from the broker's root down, are about one connection, and answer each
// other. Who decides is package keybroker/volumes; the agent keeps the marks. Both call this one.
package generation

import (
	"crypto/rand"
	"crypto/sha256"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
	"github.com/anchorhold/anchorhold/keybroker/strictjson"
)

// Reasons of this package.
const (
	// ReasonMalformed: not the one encoding of a statement, or a value outside its limits.
	ReasonMalformed refusal.Reason = "volume-statement-malformed"
	// ReasonSignature: not signed by whom it must be, or about something else.
	ReasonSignature refusal.Reason = "volume-statement-invalid"
	// ReasonRolledBack: the volume is in an older state than the one that was confirmed last, or another
	// guest opened a copy of it since.
	ReasonRolledBack refusal.Reason = "volume-rolled-back"
)

// The signing contexts.
const (
	ContextOpening = "anchorhold/volumes/opening/1"
	ContextCurrent = "anchorhold/volumes/current/1"
)

const (
	// Class is the class of the resources that volumes are.
	Class = "volumes"
	// MaxGeneration bounds the numbers: JSON's numbers are exact up to here.
	MaxGeneration = 1<<53 - 1
	// MaxSignedBytes bounds a signed statement.
	MaxSignedBytes = 40 << 10
)

var form = protocol.Form{
	Bytes: MaxSignedBytes, Body: 4 << 10, Chain: 32 << 10, Signature: 6 << 10,
	Decoded:   strictjson.Limits{Values: 32, List: 16},
	Malformed: ReasonMalformed, Forged: ReasonSignature,
}

// State is a state of a volume: its number, and the mark that no other state has. The zero value is none.
type State struct {
	Generation uint64        `json:"generation"`
	Mark       digest.Digest `json:"mark"`
}

// Zero says that there is no state.
func (s State) Zero() bool { return s == State{} }

// valid says whether s is a state, or none.
func (s State) valid() bool {
	return s.Zero() || s.Generation > 0 && s.Generation <= MaxGeneration && !s.Mark.IsZero()
}

// After is a new state that follows others.
func After(states ...State) (State, error) {
	next := State{Generation: 1}
	for _, s := range states {
		next.Generation = max(next.Generation, s.Generation+1)
	}
	if next.Generation > MaxGeneration {
		return State{}, refusal.New(ReasonMalformed, "generation %d is the last one", MaxGeneration)
	}
	rand.Read(next.Mark[:]) // it never fails: it ends the process
	return next, nil
}

// ValidVolume says whether a name may be a volume's resource.
func ValidVolume(name string) bool {
	return protocol.ValidResource(name) && protocol.Class(name) == Class && name != Class
}

// Opening is what a guest says of a volume that it opened. Without Next it asks whether the volume's state is
// the current one; with Next, it makes Next current, and the volume already holds that.
type Opening struct {
	// Connection is [ConnectionOf] the connection's exporter.
	Connection digest.Digest `json:"connection"`
	Agent      digest.Digest `json:"agent"`
	Time       protocol.Time `json:"time"`
	// Volume is the resource whose key opened it.
	Volume string `json:"volume"`
	// Confirmed is the state that a broker confirmed last, as the volume says. Unconfirmed was written
	// after it, and nobody knows whether it was confirmed: the guest ended, or heard no answer.
	Confirmed   State `json:"confirmed"`
	Unconfirmed State `json:"unconfirmed"`
	Next        State `json:"next"`
}

func (o *Opening) check() error {
	switch {
	case o.Connection.IsZero() || o.Time == 0:
		return malformed("an opening without connection or time")
	case !ValidVolume(o.Volume):
		return malformed("%q is no volume", o.Volume)
	case !o.Confirmed.valid() || !o.Unconfirmed.valid() || !o.Next.valid():
		return malformed("a state without mark, or a generation above %d", MaxGeneration)
	case !o.Next.Zero() && (!o.Unconfirmed.Zero() || o.Next.Generation <= o.Confirmed.Generation || o.Next.Mark == o.Confirmed.Mark):
		return malformed("generation %d does not follow %d", o.Next.Generation, o.Confirmed.Generation)
	}
	return nil
}

func malformed(format string, args ...any) error {
	return refusal.New(ReasonMalformed, format, args...)
}

// ConnectionOf names a connection by its exporter, which both ends know and nobody else.
func ConnectionOf(exporter []byte) digest.Digest {
	return sha256.Sum256(append([]byte("anchorhold/volumes/connection/1\x00"), exporter...))
}

// SignOpening signs with the agent key; chain is that of its lease.
func SignOpening(key *identity.Private, chain []byte, o Opening) ([]byte, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	return form.Seal(key, ContextOpening, &o, chain)
}

// VerifyOpening checks root -> epoch -> lease -> opening: that the lease was granted the key of this very
// volume, and that the statement is about this connection. Whether the lease still runs is the caller's
// question.
func VerifyOpening(raw []byte, roots []identity.Public, broker protocol.Broker, floor protocol.Floor, connection digest.Digest) (Opening, protocol.Authority, error) {
	var o Opening
	s, err := form.Split(raw, ContextOpening)
	if err != nil {
		return o, protocol.Authority{}, err
	}
	// Which key the lease must have been granted is in the body, whose signer the lease names: the chain's
	// signatures are checked first, then the agent's, then the grant.
	a, err := protocol.VerifyHolder(s.Chain(), roots, broker, floor, func(lease *protocol.LeaseCertificate) (string, error) {
		err := s.Open(lease.AgentKey, "the attested agent key", &o, o.check)
		return o.Volume, err
	})
	if err != nil {
		return Opening{}, protocol.Authority{}, err
	}
	switch {
	case o.Connection != connection:
		err = refusal.New(ReasonSignature, "signed for another connection")
	case digest.Digest(a.Lease.AgentKey.ID()) != o.Agent:
		err = refusal.New(ReasonSignature, "the opening names another agent key")
	case !a.Lease.ValidAt(o.Time):
		err = refusal.New(ReasonSignature, "signed at %s, outside the lease", o.Time.Time())
	}
	if err != nil {
		return Opening{}, protocol.Authority{}, err
	}
	return o, a, nil
}

// Current is the broker's answer to one opening: which state is current from now on.
type Current struct {
	Broker digest.Digest `json:"broker"`
	Epoch  uint64        `json:"epoch"`
	// Answers is the SHA-256 of the signed opening.
	Answers digest.Digest `json:"answers"`
	Volume  string        `json:"volume"`
	State   State         `json:"state"`
	Time    protocol.Time `json:"time"`
}

func (c *Current) check() error {
	if c.Answers.IsZero() || c.Time == 0 || !ValidVolume(c.Volume) || !c.State.valid() {
		return malformed("an answer without opening, time, volume or state")
	}
	return nil
}

// SignCurrent signs with the epoch key; epoch is the root's statement about it.
func SignCurrent(key *identity.Private, epoch []byte, c Current) ([]byte, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	return form.Seal(key, ContextCurrent, &c, epoch)
}

// VerifyCurrent checks root -> epoch statement -> answer, and that it answers this opening.
func VerifyCurrent(raw []byte, roots []identity.Public, broker protocol.Broker, floor protocol.Floor, opening []byte, volume string) (Current, error) {
	var c Current
	s, err := form.Split(raw, ContextCurrent)
	if err != nil {
		return c, err
	}
	epoch, err := protocol.VerifyStatementEpoch(s.Chain(), roots, broker, floor)
	if err != nil {
		return c, err
	}
	if err := s.Open(epoch.Key, "the epoch key", &c, c.check); err != nil {
		return Current{}, err
	}
	if digest.Digest(epoch.Broker) != c.Broker || epoch.Epoch != c.Epoch || !epoch.ValidAt(c.Time) {
		return Current{}, refusal.New(ReasonSignature, "the answer names another broker, epoch or time")
	}
	if c.Answers != digest.Digest(sha256.Sum256(opening)) || c.Volume != volume {
		return Current{}, refusal.New(ReasonSignature, "the broker answered about another opening")
	}
	return c, nil
}
