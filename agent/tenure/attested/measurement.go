package attested

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"

	"github.com/anchorhold/anchorhold/agent/settings"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
)

// ReasonOwnMeasurement is the refusal of an agent that finds itself in an image
// which its own configuration does not list.
const ReasonOwnMeasurement refusal.Reason = "own-measurement-not-whitelisted"

// whitelisted wraps a collector: evidence whose launch measurement is not in
// the configuration's list never leaves the guest. The broker judges the
// measurement in any case; this check catches a configuration carried into
// another image before anything is sent.
type whitelisted struct {
	Collector
	list []string
}

// hclHeader is what stands before a report of SEV-SNP in the report of Azure's paravisor, which the
// launch measurement is then of.
const hclHeader = 0x20

// Where a report or quote holds the measurement of the launch: MEASUREMENT (SEV-SNP ABI
// specification, table "ATTESTATION_REPORT structure"); MRTD in the body, behind the header of
// 48 bytes and, in version 5, the body's type and size (Intel TDX DCAP Quoting Library API).
const (
	snpMeasurement   = 0x90
	tdxMRTD          = 48 + 136
	tdxMRTDv5        = tdxMRTD + 6
	measurementBytes = 48
)

// measurement is that of evidence which this guest made; nil if its kind has none.
func measurement(env evidence.Envelope) []byte {
	report, at := env.Part(evidence.PartTDXQuote), 0
	switch {
	case env.Kind == evidence.KindSNP:
		report, at = env.Primary(), snpMeasurement
	case env.Kind == evidence.KindAzureSNP:
		report, at = env.Part(evidence.PartHCLReport), hclHeader+snpMeasurement
	case len(report) > 1 && report[0] == 4 && report[1] == 0:
		at = tdxMRTD
	case len(report) > 1 && report[0] == 5 && report[1] == 0:
		at = tdxMRTDv5
	default:
		return nil
	}
	if len(report) < at+measurementBytes {
		return nil
	}
	return report[at : at+measurementBytes]
}

// Collect collects evidence and compares its measurement.
func (w whitelisted) Collect(ctx context.Context, challenge [64]byte) (evidence.Envelope, error) {
	env, err := w.Collector.Collect(ctx, challenge)
	if err != nil || len(w.list) == 0 {
		return env, err
	}
	measured := measurement(env)
	if measured == nil {
		return evidence.Envelope{}, refusal.New(ReasonOwnMeasurement, "evidence of kind %q has no launch measurement to compare", env.Kind)
	}
	compact := sha256.Sum256(measured)
	for _, entry := range w.list {
		algorithm, digest, err := settings.ParseMeasurement(entry)
		if err != nil {
			return evidence.Envelope{}, err
		}
		if algorithm == "sha384" && bytes.Equal(digest, measured) || algorithm == "sha256" && bytes.Equal(digest, compact[:]) {
			return env, nil
		}
	}
	return evidence.Envelope{}, refusal.New(ReasonOwnMeasurement,
		"this guest measures sha384:%s, which compute.tee.measurement_whitelist does not list", hex.EncodeToString(measured))
}
