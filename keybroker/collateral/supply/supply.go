// Package supply judges evidence with the help of a depot of collateral: guests whose host hands
// out no certificates can attest, and revocation lists are renewed while the broker runs.
//
// It believes nothing itself. What it adds to evidence is what a guest could have added, and
// package appraise verifies it; the lists that it hands on are verified by the depot and again by
// the verifier. The report that names the chip is unverified when a certificate is looked for, so a
// guest can make the broker ask AMD's service for a chip that does not exist, at the service's pace
// and no other URL: see package depot. The broker's main makes an [Appraiser].
package supply

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker/appraise"
	"github.com/anchorhold/anchorhold/keybroker/collateral"
	"github.com/anchorhold/anchorhold/keybroker/collateral/depot"
)

// Wait is how long evidence waits for a certificate. A fetch that takes longer goes on; the guest
// asks again and finds it. It is short, because what is fetched for is not verified yet, and
// evidence that waits holds one of the broker's few places for verification: peers without any
// hardware could fill them all.
const Wait = 100 * time.Millisecond

// listsEvery is how often the verifier gets what other processes put into the directory. What the depot
// itself fetched it gets at once.
const listsEvery = time.Minute

// Appraiser is a verifier with a depot. It may be used by several goroutines.
type Appraiser struct {
	verifier *appraise.Verifier
	depot    *depot.Depot
	log      *slog.Logger

	mu   sync.Mutex
	seen [32]byte // of the lists and authorities that the verifier has
}

// New returns an appraiser, whose verifier has the lists and authorities that the depot keeps.
func New(v *appraise.Verifier, d *depot.Depot, log *slog.Logger) (*Appraiser, error) {
	a := &Appraiser{verifier: v, depot: d, log: log}
	return a, a.take()
}

// Appraise is [appraise.Verifier.Appraise]; a VCEK that evidence lacks comes from the depot. Its
// refusals are the verifier's, and package collateral's where there is no certificate.
func (a *Appraiser) Appraise(ctx context.Context, env evidence.Envelope, challenge [64]byte, now time.Time) (evidence.Claims, error) {
	env, err := a.complete(ctx, env, challenge)
	if err != nil {
		return evidence.Claims{}, err
	}
	return a.verifier.Appraise(ctx, env, challenge, now)
}

// Offsets of REPORT_DATA in a report (56860, table "ATTESTATION_REPORT").
const reportDataBegin, reportDataEnd = 0x50, 0x90

// complete adds the certificates of a chip whose host handed out none. What the verifier would
// refuse in any case is worth no request.
func (a *Appraiser) complete(ctx context.Context, env evidence.Envelope, challenge [64]byte) (evidence.Envelope, error) {
	report := env.Part(evidence.PartSNPReport)
	if env.Kind != evidence.KindSNP || env.Part(evidence.EndorsementVCEK) != nil {
		return env, nil
	}
	c, ok := appraise.ReportedChip(report)
	want := env.ReportData(challenge)
	if !ok || subtle.ConstantTimeCompare(report[reportDataBegin:reportDataEnd], want[:]) != 1 {
		return env, nil
	}
	waiting, cancel := context.WithTimeout(ctx, Wait)
	defer cancel()
	certs, err := a.depot.VCEK(waiting, collateral.Chip{Product: c.Product, HWID: c.HWID, TCB: c.TCB})
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		return env, refusal.New(collateral.ReasonUnavailable, "the chip's certificate is being fetched; ask again")
	}
	if err != nil {
		return env, err
	}
	parts := slices.DeleteFunc(slices.Clone(env.Parts), func(p evidence.Part) bool {
		return p.Type == evidence.EndorsementARK || p.Type == evidence.EndorsementASK
	})
	return evidence.NewEnvelope(env.Kind, append(parts, evidence.Part{Type: evidence.EndorsementARK, Data: certs.ARK},
		evidence.Part{Type: evidence.EndorsementASK, Data: certs.ASK}, evidence.Part{Type: evidence.EndorsementVCEK, Data: certs.VCEK})...)
}

// take hands the depot's lists to the verifier, and the authorities that hosts leave out beside a chip's
// or a provider's certificate, if they are others than before.
func (a *Appraiser) take() error {
	lists, err := a.depot.RevocationLists()
	if err != nil {
		return err
	}
	authorities, err := a.depot.Authorities()
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	digest := sha256.Sum256(bytes.Join(append(slices.Clone(lists), authorities...), nil))
	if digest == a.seen {
		return nil
	}
	if len(lists) > 0 {
		if err := a.verifier.SetRevocationLists(lists); err != nil {
			return err
		}
	}
	if err := a.verifier.SetCertificates(authorities); err != nil {
		return err
	}
	a.seen = digest
	return nil
}

// SetRevocationLists is [appraise.Verifier.SetRevocationLists], for lists from files.
func (a *Appraiser) SetRevocationLists(raw [][]byte) error { return a.verifier.SetRevocationLists(raw) }

// Ends is [appraise.Verifier.Ends].
func (a *Appraiser) Ends() []appraise.End { return a.verifier.Ends() }

// Status is [depot.Depot.Status].
func (a *Appraiser) Status() (depot.Status, error) { return a.depot.Status() }

// Run renews the depot and hands new lists to the verifier until the context ends.
func (a *Appraiser) Run(ctx context.Context) error {
	ended := make(chan error, 1)
	go func() { ended <- a.depot.Run(ctx) }()
	tick := time.NewTicker(listsEvery)
	defer tick.Stop()
	for {
		select {
		case err := <-ended:
			return err
		case <-tick.C:
		case <-a.depot.Changed():
		}
		if err := a.take(); err != nil {
			a.log.Error("revocation lists not taken over; those that are held stay in use", "err", err)
		}
	}
}
