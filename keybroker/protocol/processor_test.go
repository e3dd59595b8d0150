package protocol

import (
	"bytes"
	"slices"
	"testing"

	"golang.org/x/crypto/cryptobyte"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
)

// TestProcessorIsNamedWithinAnEpoch: a chip has one name in an epoch of a broker, another in
// every other one, and none if nobody can tell which it is.
func TestProcessorIsNamedWithinAnEpoch(t *testing.T) {
	broker, chip := [32]byte{1}, fill(make([]byte, 64), 9)
	name := ProcessorOf(broker, 7, evidence.KindSNP, chip)
	if name != ProcessorOf(broker, 7, evidence.KindSNP, bytes.Clone(chip)) || name == (Processor{}) {
		t.Error("one processor has two names, or none")
	}
	names := []Processor{name, ProcessorOf([32]byte{2}, 7, evidence.KindSNP, chip), ProcessorOf(broker, 8, evidence.KindSNP, chip),
		ProcessorOf(broker, 7, evidence.KindTDX, chip), ProcessorOf(broker, 7, evidence.KindSNP, fill(make([]byte, 64), 10)), {}}
	for i, a := range names {
		if slices.Contains(names[:i], a) {
			t.Errorf("name %d is that of another", i)
		}
	}
	for _, none := range [][]byte{nil, {}, make([]byte, 64)} {
		if ProcessorOf(broker, 7, evidence.KindSNP, none) != (Processor{}) {
			t.Errorf("%d bytes that name no chip name a processor", len(none))
		}
	}
}

// missized is a certificate whose processor has so many bytes too many.
type missized struct {
	LeaseCertificate
	more int
}

func (c *missized) encodeBody(b *cryptobyte.Builder) {
	var body cryptobyte.Builder
	c.LeaseCertificate.encodeBody(&body)
	whole := body.BytesOrPanic()
	end := bytes.Index(whole, c.Processor[:]) + len(c.Processor)
	b.AddBytes(whole[:end+min(c.more, 0)])
	b.AddBytes(make([]byte, max(c.more, 0)))
	b.AddBytes(whole[end:])
}

// TestCertificateWithAProcessorOfAnotherSizeIsRefused, though the epoch's key signed it; so is
// one without the field, as it was before there was one.
func TestCertificateWithAProcessorOfAnotherSizeIsRefused(t *testing.T) {
	p := newParties(t)
	if _, err := VerifyLease(must[[]byte](t)(sign(p.epoch, &missized{sampleLease(p), 0})), sampleEpoch(p)); err != nil {
		t.Fatal(err)
	}
	for _, more := range []int{-32, -31, -1, 1, 32} {
		_, err := VerifyLease(must[[]byte](t)(sign(p.epoch, &missized{sampleLease(p), more})), sampleEpoch(p))
		if reason, _ := refusal.ReasonOf(err); reason != ReasonMalformedMessage {
			t.Errorf("%+d bytes: %v", more, err)
		}
	}
}
