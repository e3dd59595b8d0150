package evidence

// Signed is what a device made over REPORT_DATA, or over the nonce that stands for it.
type Signed struct {
	// Primary is the data of the primary part.
	Primary []byte
	// Endorsements are certificates that came with it; they are bound to nothing.
	Endorsements []Part
}

// Assemble makes evidence for a challenge. The bound parts are made first, for sign is asked for the
// primary part over a value that covers them ([Envelope.ReportData]). It is a refusal if the parts are
// not allowed for the kind.
func Assemble(kind Kind, challenge [64]byte, bound []Part, sign func(reportData [64]byte) (Signed, error)) (Envelope, error) {
	parts := func(s Signed) (Envelope, error) {
		list := append([]Part{{Type: kind.primary(), Data: s.Primary}}, bound...)
		return NewEnvelope(kind, append(list, s.Endorsements...)...)
	}
	draft, err := parts(Signed{Primary: []byte{0}}) // in order, and within its limits
	if err != nil {
		return Envelope{}, err
	}
	signed, err := sign(draft.ReportData(challenge))
	if err != nil {
		return Envelope{}, err
	}
	return parts(signed)
}
