// Package hardware makes the collector of evidence that a configuration names, out of the devices
// that this machine has.
//
// [Open] asks each device that evidence needs, so that what is missing is said at the start and by
// "anchorhold-agent check", with what to do about it. "auto" looks for Azure's paravisor, then for
// SEV-SNP and for TDX: a processor's device that is there and does not work is an error, and no
// reason to look further. It never settles for a TPM alone. The package trusts the kernel to be the guest's own.
// The agent's main calls it.
package hardware

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net"

	"github.com/anchorhold/anchorhold/agent/settings"
	"github.com/anchorhold/anchorhold/agent/tenure/attested"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/azure"
	"github.com/anchorhold/anchorhold/guest/composite"
	"github.com/anchorhold/anchorhold/guest/device"
	"github.com/anchorhold/anchorhold/guest/snp"
	"github.com/anchorhold/anchorhold/guest/tdx"
	"github.com/anchorhold/anchorhold/guest/tsm"
	"github.com/anchorhold/anchorhold/guest/vtpm"
)

// Opened is a collector that can make evidence.
type Opened struct {
	attested.Collector
	// KeyName is the name of the key of a TPM that no processor vouches for; nil without one.
	KeyName []byte
}

// Notice says what the broker's operator has to do for this guest's evidence; it may be empty.
func (o Opened) Notice() string {
	if o.KeyName == nil {
		return ""
	}
	return "compute.tee.tpm: the name of the attestation key is " + hex.EncodeToString(o.KeyName) +
		"; a broker that does not believe its certificate needs that name in appraisal.tpm.enrolled"
}

// Open makes the collector of compute.tee and asks its devices whether they work.
func Open(ctx context.Context, c settings.Compute) (Opened, error) { return machine().open(ctx, c) }

// processor is what makes evidence alone, or with a TPM's quote.
type processor interface {
	attested.Collector
	composite.Processor
}

// devices are those of a machine.
type devices struct {
	snp  func(tsm.Privilege) (processor, error)
	tdx  func() (processor, error)
	dial func(ctx context.Context, network, address string) (net.Conn, error) // to Azure's metadata service; nil is the system's
	tpm  string                                                               // where auto looks for Azure's report; empty is the system's
}

func machine() devices {
	return devices{
		snp: func(level tsm.Privilege) (processor, error) { return snp.New(snp.Options{Privilege: level}) },
		tdx: func() (processor, error) { return tdx.New(tdx.Options{}) },
	}
}

func (d devices) open(ctx context.Context, c settings.Compute) (Opened, error) {
	o, err := d.named(ctx, c)
	if err != nil {
		return Opened{}, fmt.Errorf("compute.tee.provider: %s: %w", c.TEE.Provider, err)
	}
	return o, nil
}

// named opens the provider that the settings name.
func (d devices) named(ctx context.Context, c settings.Compute) (o Opened, err error) {
	var tpm settings.TPM
	if c.TEE.TPM != nil {
		tpm = *c.TEE.TPM
	}
	switch c.TEE.Provider {
	case settings.ProviderAuto:
		return d.whichever(ctx, c.TEE.VMPL)
	case settings.ProviderVTPM:
		o, err = alone(ctx, tpm)
	case settings.ProviderAzure:
		o, err = d.paravised(ctx, tpm)
	case settings.ProviderSNP:
		o, err = processors(ctx, func() (processor, error) { return d.snp(privilege(c.TEE.VMPL)) }, c.TEE.TPM, false)
	case settings.ProviderTDX:
		o, err = processors(ctx, d.tdx, c.TEE.TPM, tpm.EventLog == "")
	default:
		err = errors.New("no hardware has this name")
	}
	return o, err
}

// privilege is the level that reports are asked for; it was checked.
func privilege(vmpl *int) tsm.Privilege {
	if vmpl == nil {
		return tsm.Privilege{}
	}
	return tsm.Level(uint8(*vmpl))
}

// whichever asks for each TEE. A machine has one of them at most.
func (d devices) whichever(ctx context.Context, vmpl *int) (Opened, error) {
	absent := errors.New("no TEE was found (a TPM alone is taken only where vtpm is written)")
	for _, provider := range []string{settings.ProviderAzure, settings.ProviderSNP, settings.ProviderTDX} {
		var c settings.Compute
		c.TEE.Provider, c.TEE.VMPL = provider, vmpl
		if d.tpm != "" && provider == settings.ProviderAzure {
			c.TEE.TPM = &settings.TPM{Device: d.tpm}
		}
		o, err := d.named(ctx, c)
		if err == nil {
			return o, nil
		}
		// A TPM that does not work, on a machine that has a processor's TEE, is one that nobody asked for.
		if err = fmt.Errorf("%s: %w", provider, err); !missing(err) && provider != settings.ProviderAzure {
			return Opened{}, err // it is there and does not work
		}
		absent = fmt.Errorf("%w\n  %w", absent, err)
	}
	return Opened{}, absent
}

// missing says whether a processor's TEE is not there.
func missing(err error) bool {
	reason, _ := refusal.ReasonOf(err)
	return reason == device.ReasonAbsent
}

// processors opens a processor's collector, with a TPM beside it if that is configured.
func processors(ctx context.Context, open func() (processor, error), tpm *settings.TPM, ownLog bool) (Opened, error) {
	p, err := open()
	if err != nil {
		return Opened{}, err
	}
	if tpm == nil {
		return Opened{Collector: p}, nil
	}
	quotes, name, err := quotesOf(ctx, *tpm)
	if err != nil {
		return Opened{}, err
	}
	quotes.WithoutLog = quotes.WithoutLog || ownLog
	return Opened{composite.Beside{Quotes: quotes, Processor: p}, name}, nil
}

// alone opens a TPM.
func alone(ctx context.Context, tpm settings.TPM) (Opened, error) {
	quotes, name, err := quotesOf(ctx, tpm)
	if err != nil {
		return Opened{}, err
	}
	return Opened{composite.Alone{Quotes: quotes}, name}, nil
}

// paravised opens the TPM of a guest on Azure and reads the paravisor's report.
func (d devices) paravised(ctx context.Context, tpm settings.TPM) (Opened, error) {
	c, err := collector(tpm, vtpm.Key{Handle: vtpm.AzureKey})
	if err != nil {
		return Opened{}, err
	}
	reports, err := azure.New(ctx, azure.Options{TPM: c, Dial: d.dial})
	if err != nil {
		return Opened{}, err
	}
	quotes, _, err := try(ctx, c, tpm)
	if err != nil {
		return Opened{}, err
	}
	return Opened{Collector: composite.Paravised{Quotes: quotes, Kind: reports.Kind(), Reports: reports}}, nil
}

// quotesOf opens a TPM whose key is the configuration's.
func quotesOf(ctx context.Context, tpm settings.TPM) (composite.Quotes, []byte, error) {
	c, err := collector(tpm, keyOf(tpm))
	if err != nil {
		return composite.Quotes{}, nil, err
	}
	return try(ctx, c, tpm)
}

// try makes sure that the key can be used and the log be read, and returns the key's name.
func try(ctx context.Context, c *vtpm.Collector, tpm settings.TPM) (composite.Quotes, []byte, error) {
	quotes := composite.Quotes{TPM: c, WithoutLog: tpm.EventLog == settings.LogNone}
	_, name, err := c.PublicKey(ctx)
	if err == nil && !quotes.WithoutLog {
		if _, err = c.EventLog(ctx); err != nil {
			err = fmt.Errorf("%w; \"event_log: none\" under compute.tee.tpm does without", err)
		}
	}
	return quotes, name, err
}

func collector(tpm settings.TPM, key vtpm.Key) (*vtpm.Collector, error) {
	o := vtpm.Options{Device: tpm.Device, Log: tpm.EventLog, Bank: tpm.Bank, PCRs: tpm.PCRs, Key: key}
	if len(o.PCRs) == 0 {
		o.PCRs = settings.DefaultPCRs()
	}
	return vtpm.New(o)
}

// keyOf is the key that the configuration names; it was checked.
func keyOf(tpm settings.TPM) vtpm.Key {
	if handle, ok := tpm.Handle(); ok {
		return vtpm.Key{Handle: handle}
	}
	switch tpm.Key {
	case settings.KeyOwner:
		return vtpm.Key{Owner: true}
	case settings.KeyGoogle:
		return vtpm.GoogleKey()
	case settings.KeyGoogleECC:
		return vtpm.GoogleKeyECC()
	}
	return vtpm.Key{}
}
