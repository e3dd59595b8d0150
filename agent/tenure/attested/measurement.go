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

// Collect collects evidence and compares its measurement.
func (w whitelisted) Collect(ctx context.Context, challenge [64]byte) (evidence.Envelope, error) {
	env, err := w.Collector.Collect(ctx, challenge)
	if err != nil || len(w.list) == 0 {
		return env, err
	}
	measured := env.LaunchMeasurement()
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
