package protocol

import (
	"maps"

	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// Broker says whose broker must have spoken, among those whose roots are configured. Roots
// that are configured together need not trust each other: what is said about one broker's
// round counts by that broker's word alone. The zero value is nobody.
type Broker struct {
	id  [32]byte
	any bool
}

// Of asks for the broker of one root, by the root's ID.
func Of(root [32]byte) Broker { return Broker{id: root} }

// AnyBroker takes the word of each configured root's broker. It is for what begins
// something, such as a round that an aggregator takes: all that is said about that
// afterwards is asked of the broker that it names.
func AnyBroker() Broker { return Broker{any: true} }

// admits refuses the word of another root's broker.
func (b Broker) admits(st *EpochStatement) error {
	switch {
	case b.any || b.id != [32]byte{} && b.id == st.Broker:
		return nil
	case b.id == [32]byte{}:
		return refusal.New(ReasonAnotherBroker, "no expected broker is configured, so none is accepted")
	}
	return refusal.New(ReasonAnotherBroker, "signed under broker %x, want broker %x", st.Broker[:8], b.id[:8])
}

// Lowest is the lowest epoch that a verifier accepts of each root's broker: the highest of
// the measured minimum, every minimum that a verified statement of that root named, and,
// where one end talks to a broker, the highest epoch of it seen. One root's word never
// moves another's number. The zero value accepts none; values do not change.
type Lowest struct {
	every uint64
	of    map[[32]byte]uint64
}

// AtLeast accepts no epoch below this one, of any root: the verifier's own minimum.
func AtLeast(epoch uint64) Lowest { return Lowest{every: epoch} }

// Of is the lowest epoch of a root's broker.
func (l Lowest) Of(root [32]byte) uint64 { return max(l.every, l.of[root]) }

// Raised is l after a root's broker named a minimum. It never lowers.
func (l Lowest) Raised(root [32]byte, epoch uint64) Lowest {
	if epoch <= l.Of(root) {
		return l
	}
	of := make(map[[32]byte]uint64, len(l.of)+1)
	maps.Copy(of, l.of)
	of[root] = epoch
	return Lowest{every: l.every, of: of}
}
