//go:build !release

// Package emulated puts the emulators together into guests for development and tests. THEY PROVE
// NOTHING.
//
// A [Guest] of any kind collects evidence through the same code as on hardware wherever that code
// takes an emulator (guest/azure, guest/composite), and knows what its vendor would publish about
// it and what its measurements are. A guest of SEV-SNP or TDX is believed where its root is
// configured, and claims say that it is software; a TPM's key is believed where an operator enrols
// it, and nothing in the evidence tells it from a real one. None of the files compiles into a
// release. The agent's development build and tests use it.
package emulated

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/hex"
	"fmt"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/anchorhold/anchorhold/guest/azure"
	"github.com/anchorhold/anchorhold/guest/azuresim"
	"github.com/anchorhold/anchorhold/guest/composite"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/guest/localseal"
	"github.com/anchorhold/anchorhold/guest/tdxsim"
	"github.com/anchorhold/anchorhold/guest/teesim"
	"github.com/anchorhold/anchorhold/guest/tpmsim"
	"github.com/anchorhold/anchorhold/guest/vtpm"
)

// Options describe a guest.
type Options struct {
	// Kind of the guest; required.
	Kind evidence.Kind
	// Dir keeps keys and certificates; made if missing. Required.
	Dir string
	// Measurement is the launch measurement, or MRTD, and stands for what is booted.
	Measurement [48]byte
	// QuoteVersion is of quotes of TDX, 4 or 5; 0 is 4. Azure has version 4.
	QuoteVersion uint16
	// Bank and PCRs are what its TPM quotes: SHA-256 and PCRs 0 to 9 if empty.
	Bank string
	PCRs []int
}

// Collector makes evidence for a challenge.
type Collector interface {
	Collect(ctx context.Context, challenge [64]byte) (evidence.Envelope, error)
}

// Guest is an emulated guest. It is safe for concurrent use.
type Guest struct {
	Collector
	kind      evidence.Kind
	registers map[string]string
	roots     []byte
	domain    *tdxsim.TDX
	name      []byte
}

// Kinds are the kinds of evidence that it makes.
func (g *Guest) Kinds() []evidence.Kind { return []evidence.Kind{g.kind} }

// Registers are its measurements that name its firmware and image, in hexadecimal.
func (g *Guest) Registers() map[string]string { return g.registers }

// RootsPEM are the certificates that a development broker has to believe; nil for a TPM alone.
func (g *Guest) RootsPEM() []byte { return slices.Clone(g.roots) }

// Domain is its trust domain, with what Intel would publish about it; nil for other kinds.
func (g *Guest) Domain() *tdxsim.TDX { return g.domain }

// KeyName is the name of its TPM's key, for a broker to enrol; nil where a processor vouches for it.
func (g *Guest) KeyName() []byte { return slices.Clone(g.name) }

// Sealer makes keys that this guest makes again, of an emulated processor of SEV-SNP.
func (g *Guest) Sealer() (*localseal.Sealer, error) {
	d, ok := g.Collector.(localseal.Deriver)
	if !ok {
		return nil, fmt.Errorf("emulated: a guest of %s derives no keys", g.kind)
	}
	return &localseal.Sealer{SNP: d}, nil
}

// boot is what all of them boot: the loader's digest depends on the measurement.
func (o Options) boot() tpmsim.Boot {
	return tpmsim.Boot{SecureBoot: true, Loader: o.Measurement[:], Kernel: []byte("kernel"), Initrd: []byte("initrd"), CommandLine: "quiet"}
}

// New makes a guest.
func New(ctx context.Context, o Options) (*Guest, error) {
	g := &Guest{kind: o.Kind, registers: map[string]string{}}
	var err error
	switch o.Kind {
	case evidence.KindSNP:
		err = g.snp(o)
	case evidence.KindTDX:
		err = g.tdx(o)
	case evidence.KindVTPM:
		err = g.tpm(o)
	case evidence.KindAzureSNP, evidence.KindAzureTDX:
		err = g.azure(ctx, o)
	default:
		err = fmt.Errorf("no guest of kind %q", o.Kind)
	}
	if err != nil {
		return nil, fmt.Errorf("emulated: %w", err)
	}
	return g, nil
}

func (g *Guest) snp(o Options) error {
	tee, err := g.tee(o)
	g.Collector = tee
	return err
}

func (g *Guest) tee(o Options) (*teesim.TEE, error) {
	tee, err := teesim.New(teesim.Options{Dir: o.Dir, Measurement: o.Measurement})
	if err != nil {
		return nil, err
	}
	g.roots, g.registers[evidence.RegisterLaunch] = tee.RootsPEM(), hex.EncodeToString(o.Measurement[:])
	return tee, nil
}

func (g *Guest) tdx(o Options) error {
	log := tpmsim.NewLog(tpmsim.CCLog)
	if err := o.boot().Write(log); err != nil {
		return err
	}
	guest := tdxsim.Guest{Version: o.QuoteVersion, MRTD: o.Measurement}
	for i := range guest.RTMR {
		guest.RTMR[i] = log.RTMR(i)
	}
	for i, value := range guest.RTMR[1:3] {
		g.registers[fmt.Sprintf("rtmr%d", i+1)] = hex.EncodeToString(value[:])
	}
	err := g.launch(o, guest)
	g.Collector = tdxsim.Collector{TDX: g.domain, Log: log.Bytes()}
	return err
}

func (g *Guest) launch(o Options, guest tdxsim.Guest) (err error) {
	g.domain, err = tdxsim.New(tdxsim.Options{Now: time.Now(), Dir: o.Dir, Guest: guest})
	if err != nil {
		return err
	}
	g.roots, g.registers["mrtd"] = g.domain.RootsPEM(), hex.EncodeToString(o.Measurement[:])
	return nil
}

func (g *Guest) tpm(o Options) error {
	tpm, err := g.booted(o, tpmsim.Options{Dir: o.Dir})
	if err != nil {
		return err
	}
	g.name = tpm.Name()
	g.Collector = composite.Alone{Quotes: composite.Quotes{TPM: uncertified{tpm}}}
	return nil
}

// booted is a TPM after the boot, whose boot loader's PCR names the image.
func (g *Guest) booted(o Options, t tpmsim.Options) (*tpmsim.TPM, error) {
	t.Boot, t.Bank, t.PCRs = o.boot(), o.Bank, o.PCRs
	tpm, err := tpmsim.New(t)
	if err != nil {
		return nil, err
	}
	log := tpmsim.NewLog(tpmsim.TPMLog)
	if err := o.boot().Write(log); err != nil {
		return nil, err
	}
	for _, n := range []int{0, 4} {
		g.registers[fmt.Sprintf("pcr%d", n)] = hex.EncodeToString(log.PCR(o.Bank, n))
	}
	return tpm, nil
}

// azure is a guest under Azure's paravisor, whose metadata service is emulated, too.
func (g *Guest) azure(ctx context.Context, o Options) error {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	a := azuresim.Options{AK: &key.PublicKey, SecureBoot: true}
	if o.Kind == evidence.KindAzureSNP {
		a.SNP, err = g.tee(o)
	} else if err = g.launch(o, tdxsim.Guest{MRTD: o.Measurement}); err == nil {
		a.TDX = g.domain.Collect
	}
	if err != nil {
		return err
	}
	vm, err := azuresim.New(a)
	if err != nil {
		return err
	}
	tpm, err := g.booted(o, tpmsim.Options{Key: key})
	if err != nil {
		return err
	}
	reports, err := azure.New(ctx, azure.Options{TPM: vm, Dial: answering(vm)})
	if err != nil {
		return err
	}
	g.Collector = composite.Paravised{Quotes: composite.Quotes{TPM: tpm}, Kind: o.Kind, Reports: reports}
	return nil
}

// uncertified is an emulated TPM whose key's certificate, which nobody would believe, stays away.
type uncertified struct{ *tpmsim.TPM }

// Collect is that of the TPM.
func (u uncertified) Collect(ctx context.Context, nonce []byte) (vtpm.Evidence, error) {
	e, err := u.TPM.Collect(ctx, nonce)
	e.Certificate = nil
	return e, err
}

// answering makes connections to a handler, without a network.
func answering(h http.Handler) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(context.Context, string, string) (net.Conn, error) {
		client, server := net.Pipe()
		// It returns once it has the connection; that ends with its one request.
		go func() { _ = http.Serve(&one{server}, h) }()
		return client, nil
	}
}

// one is a listener for one connection.
type one struct{ conn net.Conn }

func (l *one) Accept() (net.Conn, error) {
	if l.conn == nil {
		return nil, net.ErrClosed
	}
	conn := l.conn
	l.conn = nil
	return conn, nil
}

func (l *one) Close() error { return nil }

func (l *one) Addr() net.Addr { return &net.UnixAddr{Net: "pipe"} }
