package protocol

import (
	"golang.org/x/crypto/cryptobyte"

	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/refusal"
)

const maxSignedEpochRequestBytes = 2*maxSignedEpochBytes + 512

// EpochRequest is a broker asking its root, which may be offline, to certify its next epoch
// (docs/protocol.md 5.9).
type EpochRequest struct {
	// Asked is what the root is to sign, as it stands.
	Asked EpochStatement
	// Current is the root's statement about the epoch whose key signs the request. It shows
	// whose request it is to a root that remembers nothing.
	Current []byte
}

// SignEpochRequest signs a request with the key of the epoch that Current is about.
func SignEpochRequest(current Signer, r EpochRequest) ([]byte, error) { return sign(current, &r) }

// ParseEpochRequest reads a request without believing it.
func ParseEpochRequest(signed []byte) (EpochRequest, error) {
	var r EpochRequest
	_, _, err := parseSigned(signed, maxSignedEpochRequestBytes, &r)
	return r, err
}

// VerifyEpochRequest checks that a request comes from the broker of one of the roots: signed
// by the epoch key that the root certified before, for the same audit key. It returns the
// statement about that epoch as well. Whether the root should sign is for EpochStatement.Follows.
func VerifyEpochRequest(signed []byte, roots []identity.Public) (EpochRequest, EpochStatement, error) {
	var r EpochRequest
	msg, sig, err := parseSigned(signed, maxSignedEpochRequestBytes, &r)
	if err != nil {
		return EpochRequest{}, EpochStatement{}, err
	}
	current, err := VerifyEpoch(r.Current, roots)
	if err != nil {
		return EpochRequest{}, EpochStatement{}, err
	}
	switch err := current.Key.Verify(contextEpochRequest, msg, sig); {
	case err != nil:
		return EpochRequest{}, EpochStatement{}, &refusal.Error{Reason: ReasonEpochRequest, Detail: "the request is not signed by the epoch key that it names", Err: err}
	case r.Asked.Broker != current.Broker:
		return EpochRequest{}, EpochStatement{}, refusal.New(ReasonBrokerUnknown, "the request is for an epoch of another root")
	case r.Asked.AuditKey != current.AuditKey:
		return EpochRequest{}, EpochStatement{}, refusal.New(ReasonEpochRequest, "request and current epoch name different audit keys")
	case r.Asked.Key.Equal(current.Key):
		return EpochRequest{}, EpochStatement{}, refusal.New(ReasonEpochRequest, "the request names the current epoch's key again")
	}
	return r, current, nil
}

// Follows says whether the root may sign the statement after the last one that it signed:
// the next number, no lower minimum, an end that is later and not over, no time between
// them without an epoch.
func (st *EpochStatement) Follows(last EpochStatement, now Time) error {
	switch {
	case st.Broker != last.Broker:
		return refusal.New(ReasonBrokerUnknown, "the last statement is from another root")
	case st.Epoch != last.Epoch+1:
		return refusal.New(ReasonEpochNumber, "the request is for epoch %d, but the last signed epoch is %d: have the broker ask for %d (anchorhold epoch request --number %d)", st.Epoch, last.Epoch, last.Epoch+1, last.Epoch+1)
	case st.MinEpoch < last.MinEpoch:
		return refusal.New(ReasonEpochMinimum, "the minimum epoch would go down to %d from %d", st.MinEpoch, last.MinEpoch)
	case st.NotAfter <= now:
		return refusal.New(ReasonEpochValidity, "the epoch would have ended at %s", st.NotAfter.Time())
	case st.NotAfter <= last.NotAfter:
		return refusal.New(ReasonEpochValidity, "the epoch would end at %s, no later than the last one, %s", st.NotAfter.Time(), last.NotAfter.Time())
	case st.NotBefore > max(last.NotAfter, now):
		return refusal.New(ReasonEpochValidity, "the epoch would begin at %s; the last one ends at %s, so the broker would have none between", st.NotBefore.Time(), last.NotAfter.Time())
	}
	return nil
}

func (*EpochRequest) label() string { return contextEpochRequest }

func (r *EpochRequest) encodeBody(b *cryptobyte.Builder) {
	r.Asked.encodeBody(b)
	addBytes16(b, r.Current)
}

func (r *EpochRequest) decodeBody(s *cryptobyte.String) bool {
	*r = EpochRequest{}
	return r.Asked.decodeBody(s) && readBytes16(s, &r.Current)
}

func (r *EpochRequest) validBody() bool {
	return r.Asked.validBody() && len(r.Current) > 0 && len(r.Current) <= maxSignedEpochBytes
}
